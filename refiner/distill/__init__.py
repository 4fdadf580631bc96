"""Candidates fitted to the trained layers that they may replace.

A supernet around a trained model and training batches come in; the same supernet with fitted
candidates goes out. How a kind of candidate is fitted is decided in ``fitting.py`` and
``group_fitting.py``.
"""
