"""Run a module in train or in eval mode and put every submodule's own mode back."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Inside, the whole of ``module`` is in train or in eval mode."""
    before = {child: child.training for child in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for child, was in before.items():
            child.training = was
