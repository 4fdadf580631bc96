"""The fingerprint of a loader: it shows whether the loader still gives the same data.

It covers sizes, the labels where the data set keeps them, the order, and a bounded sample of the
inputs. It reads a few dozen samples at most, each of them twice. Where the two differ, as with
random augmentation, only the shape counts. Random number generators keep their state.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Subset, TensorDataset

from refiner.core.contents import Nested, describe, tensors_in
from refiner.core.digests import digest
from refiner.core.randomness import kept_generators, seeded
from refiner.data.loaders import generators_of
from refiner.data.split import LABEL_ATTRIBUTES
from refiner.data.tensor_loader import TensorLoader

_SAMPLES = 16
"""Samples whose inputs are read."""
_WHOLE = 1 << 28
"""Bytes up to which a tensor of images is taken whole; of a larger one, evenly spaced rows."""
_FILES = 2000
"""Files whose sizes are read."""
_PATHS = ("samples", "imgs", "files", "image_files", "_images", "images")


def data_fingerprint(loader: object) -> dict[str, str]:
    """Return the digests of a loader's data by what they cover.

    Keys are ``sizes``, ``labels`` (how often each occurs), ``order`` (of labels and files),
    ``shuffling`` and ``inputs``. What cannot be known cheaply is left out.
    """
    found = {"kind": _kind(loader), "sizes": _sizes(loader), "shuffling": _shuffling(loader)}
    dataset, order = _innermost(getattr(loader, "dataset", loader))
    labels = _labels(dataset)
    if labels is not None and order is not None:
        labels = [labels[i] for i in order if i < len(labels)]
    paths = _paths(dataset, order)
    if labels is not None:
        texts = list(map(repr, labels))
        found["labels"] = digest(sorted(Counter(texts).items()))
        found["order"] = digest(" ".join(texts), [name for name, _ in paths])
    elif paths:
        found["order"] = digest([name for name, _ in paths])
    elif order is not None:
        found["order"] = digest(np.asarray(order))
    with kept_generators(loader), seeded(0, generators_of(loader)):
        try:
            found |= _inputs(loader, [size for _, size in paths])
        except Exception as error:  # the run will meet it, and tell it at its place
            found["inputs"] = type(error).__name__
    return found


def _kind(loader: object) -> str:
    dataset = getattr(loader, "dataset", None)
    return digest(type(loader).__qualname__, type(dataset).__qualname__)


def _sizes(loader: Any) -> str:
    """Return the numbers of batches and samples, and the batch size."""
    numbers: list[object] = [getattr(loader, "batch_size", None)]
    numbers += [_count(each) for each in (loader, getattr(loader, "dataset", None))]
    return ", ".join(map(str, numbers))


def _shuffling(loader: Any) -> str:
    """Return what orders a loader's samples."""
    if isinstance(loader, TensorLoader):
        return f"{loader.shuffle} {loader.train} {loader.pad} {loader.flip}"
    names = []
    for name in ("sampler", "batch_sampler"):
        sampler = getattr(loader, name, None)
        if sampler is not None and type(sampler) is not BatchSampler:
            names.append(type(sampler).__qualname__)
    return f"{' '.join(names)} drop_last={getattr(loader, 'drop_last', None)}"


def _innermost(dataset: Any) -> tuple[Any, list[int] | None]:
    """Return the data set below all subsets, and the indices that these take; None where all."""
    order: list[int] | None = None
    while isinstance(dataset, Subset):
        indices = [int(i) for i in dataset.indices]
        order = indices if order is None else [indices[i] for i in order]
        dataset = dataset.dataset
    return dataset, order


def _labels(dataset: Any) -> Sequence[Any] | None:
    """Return the labels that a data set keeps, one for each sample; None where it keeps none."""
    if isinstance(dataset, TensorDataset):
        return _listed(dataset.tensors[-1])
    if isinstance(dataset, list | tuple):  # of samples, or of whole batches
        pairs = [each for each in dataset if isinstance(each, list | tuple) and len(each) == 2]
        if len(pairs) == len(dataset):
            return [digest(target) for _, target in pairs]
        return [digest(each) for each in dataset]
    for name in LABEL_ATTRIBUTES:
        labels = _listed(getattr(dataset, name, None))
        if labels is not None:
            return labels
    inner = getattr(dataset, "dataset", None)  # wrapped, with transforms of its own, say
    if inner is None or _count(inner) is None or _count(inner) != _count(dataset):
        return None
    return _labels(inner)


def _count(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except (TypeError, AttributeError, NotImplementedError):
        return None


def _listed(labels: Any) -> Sequence[Any] | None:
    if isinstance(labels, torch.Tensor | np.ndarray):
        if labels.ndim == 1:
            return list(labels.tolist())
        return [digest(each) for each in labels] if labels.ndim and labels.nbytes < _WHOLE else None
    if isinstance(labels, list | tuple) and all(isinstance(e, int | float | str) for e in labels):
        return labels
    return None


def _paths(dataset: Any, order: Sequence[int] | None) -> list[tuple[str, int]]:
    """Return names and sizes of evenly spaced files of a data set that keeps its files."""
    for name in _PATHS:
        kept = getattr(dataset, name, None)
        if not isinstance(kept, list | tuple) or not kept:
            continue
        paths = [each[0] if isinstance(each, list | tuple) and each else each for each in kept]
        if all(isinstance(path, str | Path) for path in paths):
            if order is not None:
                paths = [paths[i] for i in order if i < len(paths)]
            return [_named(Path(path)) for path in _spaced(paths, _FILES)]
    return []


def _named(path: Path) -> tuple[str, int]:
    """Return the last two names of a path, since a folder may have moved, and the file's size."""
    try:
        size = os.stat(path).st_size
    except (OSError, ValueError):
        size = -1
    return "/".join(path.parts[-2:]), size


def _spaced(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most ``count`` items, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _inputs(loader: Any, sizes: Sequence[int]) -> dict[str, str]:
    """Return the digest of a sample of the inputs; the sizes of their files are known already."""
    if isinstance(loader, TensorLoader):
        scale = (loader.mean, loader.std)
        return {
            "inputs": digest(_rows(loader.images), scale),
            "labels": digest(loader.labels.sort().values),
            "order": digest(loader.labels),
        }
    if not isinstance(loader, DataLoader):
        if isinstance(loader, list | tuple):
            return {"inputs": digest([_repeated(lambda b=b: b) for b in _spaced(loader, _SAMPLES)])}
        return {"inputs": _repeated(lambda: next(iter(loader), None))}
    dataset, order = _innermost(loader.dataset)
    if isinstance(dataset, IterableDataset):
        if loader.num_workers:  # workers would have to be started, twice
            return {}
        return {"inputs": _repeated(lambda: next(iter(loader), None))}
    if isinstance(dataset, TensorDataset) and order is None:
        return {"inputs": digest([_rows(tensor) for tensor in dataset.tensors])}
    count = _SAMPLES // 4 if sizes else _SAMPLES  # images from a disk take milliseconds each
    indices = _spaced(range(len(loader.dataset)), count)  # type: ignore[arg-type]
    read = [_repeated(lambda i=i: loader.dataset[i]) for i in indices]
    return {"inputs": digest(read, sizes)}


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor, or evenly spaced rows of a large one."""
    if tensor.nbytes <= _WHOLE or not tensor.ndim:
        return tensor
    count = max(1, _WHOLE * len(tensor) // tensor.nbytes)
    return tensor[_spaced(range(len(tensor)), count)]


def _repeated(read: Any) -> str:
    """Return the digest of what is read twice; its shapes alone where it differs."""
    values = []
    for _ in range(2):
        with seeded(0):
            values.append(read())
    first, second = (digest(value) for value in values)
    return first if first == second else _shapes(values[0])


def _shapes(value: Nested) -> str:
    tensors = tensors_in(value)
    return f"{describe(value)} {[str(tensor.dtype) for tensor in tensors]}"
