"""Count with thop beside torch's counter: two counts that agree are more likely right.

thop knows layers by their exact class and sees no functional call. So it is given a copy, and each
conv, linear and recurrent layer is counted by what it is; norms, activations and pools are zero.
A transposed conv counts by the positions of its input, as in torch: each multiplies a whole kernel.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from refiner.core.batches import batch_size
from refiner.core.errors import one_line
from refiner.core.inputs import ExampleInput, call_arguments
from refiner.core.layers import TRANSPOSED_CONV_TYPES, is_conv
from refiner.core.randomness import seeded


def thop_macs(model: nn.Module, example: ExampleInput) -> tuple[int | None, tuple[str, ...]]:
    """Return thop's count for one sample, and notes if thop could not run.

    Args:
        model: in eval mode; thop leaves buffers in it.
        example: its input, of any batch size.
    """
    import thop
    from thop.vision.basic_hooks import zero_ops

    counted = (nn.Linear, nn.RNNBase, nn.RNNCellBase)
    custom = {
        type(module): _count_layer if is_conv(module) or isinstance(module, counted) else zero_ops
        for module in model.modules()
        if not any(True for _ in module.children())
    }
    args, kwargs = call_arguments(example)
    wrapped = _Positional(model, tuple(kwargs)) if kwargs else model
    try:
        with torch.no_grad(), seeded(0):
            macs, _ = thop.profile(
                wrapped, (*args, *kwargs.values()), custom_ops=custom, verbose=False
            )
    except Exception as error:
        return None, (f"thop could not count this model ({one_line(error, 120)})",)
    return round(macs / batch_size(example)), ()


def _count_layer(module: Any, inputs: Any, output: Any) -> None:
    """Add the MACs of one call of a layer."""
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        macs = _steps(module, inputs[0]) * sum(
            p.numel() for p in module.parameters() if p.dim() > 1
        )
    elif isinstance(module, TRANSPOSED_CONV_TYPES):
        each = module.out_channels // module.groups * math.prod(module.kernel_size)
        macs = inputs[0].numel() * each
    elif is_conv(module):
        each = module.in_channels // module.groups * math.prod(module.kernel_size)
        macs = output.numel() * each
    else:
        macs = output.numel() * module.in_features
    module.total_ops += torch.DoubleTensor([macs])


def _steps(module: Any, given: Any) -> int:
    """Return how many steps of how many sequences a recurrent layer takes."""
    values = given.data if isinstance(given, PackedSequence) else given
    return int(values.numel() // module.input_size)


class _Positional(nn.Module):
    """Calls a model by keyword for a tool that knows positional arguments alone."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *args: Any) -> Any:
        return self.model(**dict(zip(self.names, args, strict=True)))
