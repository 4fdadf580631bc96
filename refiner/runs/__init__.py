"""What a run writes and reports.

What the search found comes in; the folder of the run, its report and its figures go out. What a
report shows is decided in ``report.py``.
"""
