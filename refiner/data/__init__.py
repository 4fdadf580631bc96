"""Data sets and loaders.

A name such as ``cifar10`` or ``folder:PATH``, or a loader of the user's, comes in; a
:class:`refiner.data.loaders.Data` with training and validation batches goes out. A new data set
belongs in ``datasets.py``.
"""
