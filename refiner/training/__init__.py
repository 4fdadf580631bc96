"""Trains and evaluates one network, on one process or several.

A network, a task and batches come in; trained weights and scores go out. A new task belongs in
``task.py``, a new learning-rate schedule in ``schedules.py``.
"""
