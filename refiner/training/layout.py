"""Layout in memory: images with their channels last, where a model takes them.

On a CPU, many networks train in 10 to 60 % less time on such images. What a network computes of
them keeps the layout. A model that reshapes by ``view`` may fail on them, so it is tried first.
"""

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.batches import TARGET_KEYS, is_empty, of_size
from refiner.core.contents import Nested, tensors_in
from refiner.core.inputs import ExampleInput, call, fresh
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.core.types import Batch, Loader
from refiner.data.loaders import generators_of
from refiner.training.task import Task

_TOLERANCE = 1e-3
"""Largest difference of outputs, in units of the largest output."""


def laid_out(value: Nested) -> Nested:
    """Return a value; real-valued images in it, N x C x H x W, have their channels last."""
    return pytree.tree_map(
        lambda v: v.contiguous(memory_format=torch.channels_last) if _is_images(v) else v, value
    )


def with_inputs_laid_out(batch: Batch) -> Batch:
    """Return a batch with its inputs laid out, if it is one of these kinds; others stay.

    They are a tensor, a tuple or list of one or two items, and a dict with known targets.
    """
    if type(batch) in (tuple, list) and len(batch) in (1, 2):
        return type(batch)((laid_out(batch[0]), *batch[1:]))
    if type(batch) is dict:
        return {k: v if k in TARGET_KEYS else laid_out(v) for k, v in batch.items()}
    return laid_out(batch) if isinstance(batch, torch.Tensor) else batch


def takes_channels_last(
    model: nn.Module, example: ExampleInput, task: Task, loader: Loader
) -> bool:
    """Return whether a model works on images with their channels last, and gives the same outputs.

    Args:
        model: on a CPU; it stays as it is, and a copy runs in both modes.
        example: input of the model, which may hold images or not.
        task: is tried too if it is the user's own, on a copy and one batch.
        loader: gives that batch.
    """
    if not any(map(_is_images, tensors_in(example))):
        return False
    try:
        network, images = copied(model), of_size(example, 2)
        with seeded(0, generators_of(loader)):
            outputs = tensors_in(call(network.train(), laid_out(fresh(images))))
            learned = [output.sum() for output in outputs if output.requires_grad]
            if learned:
                torch.stack(learned).sum().backward()
            if type(task).__module__.partition(".")[0] != "refiner":
                _try_task(network, task, loader)
            with torch.no_grad():
                given = call(network.eval(), fresh(images))
                last = call(network.eval(), laid_out(fresh(images)))
        return _equal(tensors_in(given), tensors_in(last))
    except Exception:  # whatever the user's code raises; if it always does, a later check says so
        return False


def _try_task(network: nn.Module, task: Task, loader: Loader) -> None:
    task = copied(task) if isinstance(task, nn.Module) else task  # type: ignore[assignment]
    batch = with_inputs_laid_out(next(batch for batch in loader if not is_empty(batch)))
    task.loss(network.train(), batch).backward()
    with torch.no_grad():
        task.measure(network.eval(), batch)


def _is_images(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 4 and value.is_floating_point()


def _equal(given: list[torch.Tensor], last: list[torch.Tensor]) -> bool:
    pairs = [(a.double(), b.double()) for a, b in zip(given, last, strict=True) if a.numel()]
    return all(
        a.shape == b.shape and bool((a - b).abs().max() <= _TOLERANCE * a.abs().max())
        for a, b in pairs
    )
