"""Fits candidates to the trained layers that they may replace.

A supernet around a trained model and training batches come in; the same supernet with fitted
candidates goes out. A new way to fit a candidate belongs in ``candidate_fit.py``, one for channel
groups in ``group_fitting.py``.
"""
