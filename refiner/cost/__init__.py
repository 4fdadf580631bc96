"""What an architecture costs: MACs, parameters and milliseconds, and which architectures keep to a budget.

A search space and a budget come in; the cost of every candidate and the set of feasible
architectures go out. A new resource belongs in ``budget.py``.
"""
