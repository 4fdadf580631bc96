"""The input that a command traces a model with."""

import torch
from torch import nn

from refiner.core.errors import ConfigError, one_line
from refiner.core.inputs import ExampleInput
from refiner.core.models import default_input_size, input_channels
from refiner.data.datasets import load_data
from refiner.data.loaders import example_of


def example_input(
    model: nn.Module, size: str | None, data: str | None, seed: int = 0
) -> ExampleInput:
    """Return two samples: of a data set, or random ones of the given or the model's own size."""
    if data is None:
        return _random_input(model, size)
    if size is not None:
        raise ConfigError("--input-size and --data both give the size of the input. Name one.")
    loader = load_data(data, channels=input_channels(model), seed=seed).train
    example: ExampleInput = example_of(loader)
    return example


def _random_input(model: nn.Module, size: str | None) -> torch.Tensor:
    """Return two random samples of a size such as ``C,H,W`` or ``N``, or of the model's own."""
    shape: tuple[int, ...]
    if size is None:
        shape = default_input_size(model)
    else:
        try:
            shape = tuple(int(part) for part in size.split(","))
        except ValueError:
            raise ConfigError(f"--input-size {size!r} is not C,H,W, such as 3,224,224.") from None
        if min(shape) < 1:
            raise ConfigError(f"--input-size {size!r} has a size below 1. Write 3,224,224, say.")
        if len(shape) == 1:  # images of N x N pixels
            shape = (input_channels(model), *shape, *shape)
    try:
        return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    except RuntimeError as error:
        raise ConfigError(f"--input-size {size!r} is too large: {one_line(error, 100)}") from error
