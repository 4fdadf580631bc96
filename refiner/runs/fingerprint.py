"""What a run was begun with, in short: it goes on only with the same.

``config.json`` keeps a digest of the weights, the layers, the task, the data and the example input,
and the versions of refiner and torch. Settings are compared by themselves.
"""

import os
from collections.abc import Mapping

import torch
from torch import nn

import refiner
from refiner.core.contents import to_json
from refiner.core.digests import digest, layers_digest, weights_digest
from refiner.core.errors import RunError
from refiner.core.inputs import ExampleInput
from refiner.core.types import JsonDict, Loader
from refiner.data.fingerprint import data_fingerprint
from refiner.training.task import Task

_VERSIONS = "versions"
_DATA = {
    "kind": "the kind of loader of the {} data",
    "sizes": "the number of samples, or the batch size, of the {} data",
    "labels": "the labels of the {} data",
    "order": "the order of the {} data, or which label belongs to which sample",
    "shuffling": "how the {} data is shuffled",
    "inputs": "the inputs of the {} data",
}
"""What the parts of a loader's fingerprint cover, in the order in which they are compared."""


def fingerprint(
    model: nn.Module, task: Task, loaders: Mapping[str, Loader], example: ExampleInput | None
) -> JsonDict:
    """Return the fingerprint of a run, as JSON types.

    Args:
        model: the original.
        task: a task with weights of its own counts with them.
        loaders: ``training`` and ``validation``, and others by name.
        example: the example input, whose shapes count; None where there is none.
    """
    found: dict[str, JsonDict] = {
        _VERSIONS: {"refiner": refiner.__version__, "torch": torch.__version__},
        "parts": {
            "the layers of the model": layers_digest(model),
            "the weights of the model": weights_digest(model),
            "the task": _task(task),
            "the shape of the example input": digest(None if example is None else to_json(example)),
        },
    }
    for name, loader in loaders.items():
        for part, text in data_fingerprint(loader).items():
            found["parts"][_DATA[part].format(name)] = text
    return found


def _task(task: Task) -> str:
    weights = weights_digest(task) if isinstance(task, nn.Module) else ""
    return digest(type(task).__qualname__, task.metric, weights)


def check_fingerprint(
    folder: str | os.PathLike[str], before: object, now: Mapping[str, JsonDict]
) -> None:
    """Raise a RunError that names what differs from what a run was begun with.

    Args:
        folder: of the run.
        before: what its config.json keeps.
        now: what :func:`fingerprint` returned.
    """
    if not isinstance(before, dict) or not all(isinstance(before.get(key), dict) for key in now):
        raise RunError(
            f"{folder} does not say which weights and data it was begun with, so it cannot go on. "
            "Begin a new run."
        )
    for name, version in now.get(_VERSIONS, {}).items():
        old = before[_VERSIONS].get(name)
        if old != version:
            raise RunError(
                f"{folder} was begun with {name} {old!s:.40}, and this is {name} {version}: the "
                f"numbers would differ. Install {name} {old!s:.40} to go on, or begin a new run."
            )
    ours, theirs = now.get("parts", {}), before.get("parts", {})
    differing = [part for part in {**ours, **theirs} if ours.get(part) != theirs.get(part)]
    if differing:
        order = {text: place for place, text in enumerate(_named_parts())}
        differing.sort(key=lambda part: order.get(part, len(order)))
        raise RunError(
            f"{folder} was begun with something else: {_joined(differing[:3])} differ"
            f"{'s' if len(differing) == 1 else ''}. Give the same to go on, or begin a new run."
        )


def _named_parts() -> list[str]:
    """Return all parts in the order in which a person looks for the cause."""
    own = ["the layers of the model", "the weights of the model", "the task"]
    data = [text.format(name) for name in ("training", "validation") for text in _DATA.values()]
    return [*own, *data]


def _joined(parts: list[str]) -> str:
    shown = [f"{part:.80}" for part in parts]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
