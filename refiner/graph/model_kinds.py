"""Models that are not refined as they are: compiled, wrapped, scripted and quantised ones."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from refiner.core.errors import ModelError


def check_kind(model: nn.Module) -> None:
    """Raise a ModelError, which names the next step, unless the model can be recorded."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "the model is a TorchScript module. Give the module that it was made from."
        )
    if isinstance(getattr(model, "_orig_mod", None), nn.Module):
        raise ModelError(
            "the model is compiled by torch.compile. Give model._orig_mod, and compile the result."
        )
    if isinstance(model, nn.DataParallel | DistributedDataParallel):
        raise ModelError(
            f"the model is wrapped in {type(model).__name__}. Give model.module, and wrap the "
            "result."
        )
    for name, module in model.named_modules():
        if ".quantized" in type(module).__module__:
            raise ModelError(
                f"{name or 'the model'} is quantised ({type(module).__module__}). Give the model "
                "before that, and quantise the result."
            )
