"""Trackers of experiments: TensorBoard, Weights & Biases and MLflow.

What a run knows over time comes in, as listeners get it; files or a server's records go out. A
tracker is an adapter with four methods over ``base.py``, and a name in ``choice.py``.
"""
