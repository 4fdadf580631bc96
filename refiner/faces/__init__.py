"""Face recognition: the ArcFace head and the verification protocol.

Embeddings and pairs of faces come in; a training task and verification accuracies go out. A new
format of pairs belongs in ``pairs.py`` or ``packs.py``.
"""
