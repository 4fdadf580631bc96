"""What all packages need: errors, random numbers, progress, models, inputs and module surgery.

A model's name, a weight file or an example input comes in; modules and tensors go out. A new
source of models belongs in ``models.py``, a new kind of error in ``errors.py``.
"""
