"""The cost of an architecture, and the architectures that keep to a budget.

Costs are MACs, parameters and milliseconds.

A search space and a budget come in; the cost of every candidate and the set of feasible
architectures go out. A new resource belongs in ``budget.py``.
"""
