"""Runtimes: what runs a network where it is deployed, and how long a forward pass takes there.

In come a network, an example input, and the name of a runtime; out come latencies. A further
runtime is one file with a class that keeps to :class:`refiner.runtimes.runtime.Runtime`, and a line
in ``choice.py``.
"""
