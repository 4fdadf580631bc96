"""Strategies, and the loop that asks them for architectures and gives them the scores.

A supernet, a strategy and validation batches come in; the best architectures with their scores go
out. A new strategy is a file with ``ask``, ``tell`` and ``recommend``, and a line in
``strategies.py``.
"""
