"""What architectures cost in MACs, parameters and milliseconds, and which keep to a budget.

A search space and a budget come in; the cost of every candidate and the set of feasible
architectures go out. A new resource belongs in ``budget.py``.
"""
