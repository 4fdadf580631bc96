"""The number format of a model's weights: which ones can be trained."""

import torch
from torch import nn

from refiner.core.errors import ModelError

_TOO_COARSE = (torch.float16, torch.bfloat16)


def check_weights(model: nn.Module) -> None:
    """Check that small steps of training change the weights; half precision rounds them away.

    Raises:
        ModelError: a parameter is in half precision, or has no values; or it is not a module.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model is a {type(model).__name__}. Give a torch.nn.Module.")
    for name, parameter in model.named_parameters():
        if parameter.dtype in _TOO_COARSE:
            kind = str(parameter.dtype).removeprefix("torch.")
            back = ".half()" if kind == "float16" else ".bfloat16()"
            raise ModelError(
                f"{name} is {kind}, in which the small steps of fitting and training are rounded "
                f"away. Give model.float() and float32 inputs, and call {back} on the result."
            )
        if parameter.is_meta:
            raise ModelError(
                f"{name} is on the meta device, so it has no values. Build the model on the CPU "
                "and load its weights; `refine slots` works without."
            )
