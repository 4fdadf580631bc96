"""The shapes of convs for one sample of the model.

A model may fold frames, views, patches or pairs into the batch, or give a conv as many regions as
it finds. So the first dimension of a conv's input is not a number of samples, and what one sample
takes is seen only where the model runs on one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from refiner.core.batches import batch_size, first_sample
from refiner.core.errors import ModelError
from refiner.core.inputs import ExampleInput
from refiner.core.layers import CONV_TYPES
from refiner.graph.slots import ConvSite, Slot
from refiner.graph.trace_check import run_original
from refiner.graph.traced_model import Shapes, TracedModel


def for_one_sample(slots: Sequence[Slot], traced: TracedModel) -> tuple[Slot, ...]:
    """Return the slots with the shapes of their convs for the first sample of the example input.

    A conv that the first sample does not reach gets an empty batch. Where the model does not run
    on one sample, the batch of each conv is divided by the number of samples.
    """
    samples = batch_size(traced.runs[0].example)
    if samples == 1:
        return tuple(slots)
    if traced.shapes is None:
        traced.shapes = _shapes_of(traced.work, first_sample(traced.runs[0].example))
    seen = traced.shapes

    def of_one(site: ConvSite) -> ConvSite:
        first = 0 if seen else max(1, round(site.out_shape[0] / samples))
        estimated = (first, *site.in_shape[1:]), (first, *site.out_shape[1:])
        given, taken = seen.get(site.conv, estimated)
        return replace(site, in_shape=given, out_shape=taken)

    return tuple(
        replace(
            slot,
            sites=tuple(map(of_one, slot.sites)),
            gate_convs=tuple(map(of_one, slot.gate_convs)),
        )
        for slot in slots
    )


def _shapes_of(work: nn.Module, example: ExampleInput) -> dict[str, Shapes]:
    """Return the shapes of the input and the output of each conv that runs in eval mode.

    It is empty where the model does not run on the example.
    """
    seen: dict[str, Shapes] = {}

    def note(name: str, args: Any, output: Any) -> None:
        if args and isinstance(args[0], torch.Tensor) and isinstance(output, torch.Tensor):
            seen.setdefault(name, (tuple(args[0].shape), tuple(output.shape)))

    hooks = [
        module.register_forward_hook(lambda _, args, out, name=name: note(name, args, out))
        for name, module in work.named_modules()
        if isinstance(module, CONV_TYPES)
    ]
    try:
        run_original(work, example, training=False)
    except ModelError:
        return {}
    finally:
        for hook in hooks:
            hook.remove()
    return seen
