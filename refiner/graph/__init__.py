"""A model seen as a graph: its convs, the groups they form and its skip connections.

A model and an example input come in; a traced graph, the slots, the frozen convs with reasons and
the skip connections go out. What may become a slot is decided in ``slots.py`` and
``channel_groups.py``; what counts as a skip connection in ``skips.py``.
"""
