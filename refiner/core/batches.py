"""Batches: their inputs and target, their size, and batches of other sizes."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.contents import Nested, tensors_in
from refiner.core.detection_batches import is_detection
from refiner.core.errors import DataError
from refiner.core.inputs import call, call_arguments
from refiner.core.types import Batch, Output

TARGET_KEYS = ("labels", "label", "targets", "target", "mask", "masks", "y")
"""Keys that name the target in a batch that is a mapping, in the order of preference."""

PIECE = 2**22
"""Numbers in the inputs of a piece: 27 images of 224 x 224. What a network computes from them takes
a few GB at most."""

_Example = TypeVar("_Example")


def inputs_and_target(batch: Batch) -> tuple[Nested, Nested]:
    """Return the model's input in a batch, and the target to compare the output with.

    A batch is a pair of the two, or a mapping in which one of :data:`TARGET_KEYS` names the target.
    If the mapping has one other value, that value is the only argument of the model. Several other
    values are keyword arguments. Texts, such as the paths of images, are left out beside tensors.

    Raises:
        DataError: the batch has another structure.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, Mapping):
        key = next((key for key in TARGET_KEYS if key in batch), None)
        if key is not None and len(batch) > 1:
            rest = {name: value for name, value in batch.items() if name != key}
            if any(map(tensors_in, rest.values())):
                rest = {name: value for name, value in rest.items() if not _is_text(value)}
            return (next(iter(rest.values())) if len(rest) == 1 else rest), batch[key]
        kind = f"a mapping of {', '.join(map(str, batch))}"
    else:
        kind = f"a {type(batch).__name__}"
        kind += f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
    raise DataError(
        f"cannot find the inputs and the target in a batch: the loader yields {kind}. Yield pairs, "
        f"or mappings with one of the keys {', '.join(TARGET_KEYS)} (all else goes to the model), "
        "or pass a task and an example_input of your own."
    )


def inputs_of(batch: Batch) -> Nested:
    """Return the model's input in a batch, which may have no target.

    Without a target a batch is a tensor, a list or tuple of one item, or a mapping of one.

    Raises:
        DataError: the batch has another structure.
    """
    if isinstance(batch, torch.Tensor):
        return batch
    if isinstance(batch, tuple | list) and len(batch) == 1:
        return batch[0]
    if isinstance(batch, Mapping) and len(batch) == 1:
        return next(iter(batch.values()))
    return inputs_and_target(batch)[0]


def _is_text(value: Nested) -> bool:
    """Return whether a value holds texts alone, one per sample."""
    texts = value if isinstance(value, list | tuple) else [value]
    return bool(texts) and all(isinstance(text, str | Path) for text in texts)


def output_and_target(model: nn.Module, batch: Batch) -> tuple[Output, Nested]:
    """Return the output of ``model`` for a batch, and the batch's target.

    Raises:
        DataError: the batch does not name its target.
    """
    inputs, target = inputs_and_target(batch)
    return _output(model, inputs), target


def output_of(model: nn.Module, batch: Batch) -> Output:
    """Return the output of ``model`` for a batch, which may have no target.

    Raises:
        DataError: the inputs of the batch cannot be found.
    """
    return _output(model, inputs_of(batch))


def _output(model: nn.Module, inputs: Nested) -> Output:
    # Collating turns a tuple of positional arguments into a list.
    return call(model, tuple(inputs) if isinstance(inputs, list) else inputs)


def batch_size(example: Nested) -> int:
    """Return the number of samples, or 1 if there is no batch.

    The first list, or the first tensor with at least one dimension, gives the number.
    """
    args, kwargs = call_arguments(example)
    for value in (*args, *kwargs.values()):
        if isinstance(value, list) and value:
            return len(value)
        for tensor in tensors_in(value):
            if tensor.dim():
                return int(tensor.shape[0])
    return 1


def is_empty(batch: Batch) -> bool:
    """Return whether a batch has no sample, as where a collate function drops broken ones."""
    tensors = [tensor for tensor in tensors_in(batch) if tensor.dim()]
    return bool(tensors) and all(len(tensor) == 0 for tensor in tensors)


def of_each_batch(example: _Example, change: Callable[[Nested], Nested]) -> _Example:
    """Return ``example`` with ``change`` applied to each tensor and list of its batch size."""
    size = batch_size(example)

    def changed(value: Nested) -> Nested:
        if isinstance(value, list) and len(value) == size:
            return change(value)
        return pytree.tree_map(
            lambda v: (
                change(v) if isinstance(v, torch.Tensor) and v.dim() and len(v) == size else v
            ),
            value,
        )

    args, kwargs = call_arguments(example)
    result: Nested
    if isinstance(example, Mapping):
        result = {name: changed(value) for name, value in kwargs.items()}
    else:
        result = tuple(map(changed, args)) if isinstance(example, tuple) else changed(example)
    same_kind: _Example = result
    return same_kind


def rows_of(batch: Batch) -> int | None:
    """Return the number of samples, if each tensor of a batch has one row for each of them.

    It is None where that is not plain: there is a list of inputs, a value that is no tensor, or a
    structure that only the task knows.
    """
    if is_detection(batch):
        return None
    try:
        inputs = inputs_of(batch)
    except DataError:
        return None
    size = batch_size(inputs)
    plain = all(
        isinstance(leaf, torch.Tensor) and leaf.dim() and len(leaf) == size
        for leaf in pytree.tree_leaves(batch)
    )
    return size if plain and not isinstance(inputs, list) else None


def merged(batches: Sequence[Batch]) -> Batch | None:
    """Return batches as one; None where one has no :func:`rows_of`, or they differ in form."""
    flat = [pytree.tree_flatten(batch) for batch in batches]
    if any(structure != flat[0][1] for _, structure in flat) or None in map(rows_of, batches):
        return None
    columns = list(zip(*(leaves for leaves, _ in flat), strict=True))
    if any(tensor.shape[1:] != column[0].shape[1:] for column in columns for tensor in column):
        return None
    return pytree.tree_unflatten([torch.cat(column) for column in columns], flat[0][1])


def doubled(example: _Example) -> _Example:
    """Return ``example`` with each of its samples twice."""
    return of_each_batch(
        example, lambda v: torch.cat([v, v]) if isinstance(v, torch.Tensor) else v * 2
    )


def one_more(example: _Example) -> _Example:
    """Return ``example`` with its first sample appended once more."""
    return of_each_batch(
        example, lambda v: torch.cat([v, v[:1]]) if isinstance(v, torch.Tensor) else [*v, v[0]]
    )


def of_size(example: _Example, count: int) -> _Example:
    """Return ``example`` with ``count`` samples: its own, again from the first where it has
    fewer."""

    def taken(batch: Nested) -> Nested:
        indices = [i % len(batch) for i in range(count)]
        return batch[indices] if isinstance(batch, torch.Tensor) else [batch[i] for i in indices]

    return of_each_batch(example, taken)


def pieces(batch: Batch, most: int = PIECE) -> Iterator[Batch]:
    """Yield a batch in pieces of at most ``most`` numbers, and of at least one sample each.

    It stays whole if it has no :func:`rows_of`.
    """
    size = rows_of(batch)
    numbers = sum(tensor.numel() for tensor in tensors_in(batch))
    if size is None or most >= numbers:
        yield batch
        return
    samples = max(1, most * size // numbers)
    for first in range(0, size, samples):
        part = slice(first, first + samples)
        yield pytree.tree_map(operator.itemgetter(part), batch)


def first_sample(example: _Example) -> _Example:
    """Return ``example`` with only its first sample, as a batch of size one."""
    return of_each_batch(example, lambda batch: batch[:1])
