"""The search space: the candidates of every slot, and networks built from them.

Slots come in; a search space, the weight-sharing supernet and rewritten networks go out. A new
operation belongs in ``operations.py`` and is registered in ``candidates.py``.
"""
