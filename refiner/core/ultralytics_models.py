"""Models of ultralytics: a checkpoint of its training, or an architecture by its YAML file."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from refiner.core.errors import ModelError, one_line

_ACTIVATION = re.compile(r"(torch\.)?nn\.[A-Za-z0-9]+\([A-Za-z0-9_=., -]*\)")
_KINDS = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "classify": "ClassificationModel",
}
"""Classes of networks by what these are for."""
SOURCE = "ultralytics:"
"""Begins the names of these models."""


def is_yaml(file: str) -> bool:
    """Return whether a name is that of a YAML file, of a model or of a data set."""
    return file.endswith((".yaml", ".yml"))


def is_checkpoint(source: str) -> bool:
    """Return whether the name of a model is that of a checkpoint, which has trained weights."""
    return source.startswith(SOURCE) and not is_yaml(source)


def build_ultralytics(file: str, *, trust: bool = False) -> nn.Module:
    """Return the network of a checkpoint in float32, or of a YAML file with new weights.

    Args:
        file: ``best.pt``, or a name such as ``yolo11n.yaml``. Nothing is downloaded.
        trust: whether a checkpoint may hold objects that ultralytics does not know; reading those
            can run code.

    Raises:
        ModelError: ultralytics is not installed, or the file is missing or is none of its models.
    """
    tasks = require_ultralytics().nn.tasks
    if is_yaml(file):
        return _from_yaml(file, tasks)
    if not Path(file).is_file():
        raise ModelError(f"{file} is no file. Give the path of a checkpoint, such as best.pt.")
    try:
        with _kept_safe_globals():
            checkpoint, _ = tasks.torch_safe_load(file, safe_only=not trust)
    except Exception as error:
        hint = "" if trust else " If you trust it, give --trust-weights."
        raise ModelError(f"{file} cannot be read: {one_line(error, 200)}.{hint}") from error
    network = None
    if isinstance(checkpoint, dict):
        network = checkpoint.get("ema") or checkpoint.get("model")
    if not isinstance(network, nn.Module):
        raise ModelError(f"{file} holds no network. Give a checkpoint that ultralytics wrote.")
    network = _with_arguments(network.float(), checkpoint.get("train_args") or {})
    if classifies(network):
        side = hyperparameters(network).imgsz
        noted: Any = network  # as timm notes how images are prepared; here they are from 0 to 1
        noted.pretrained_cfg = {
            "input_size": (3, side, side), "mean": [0.0] * 3, "std": [1.0] * 3, "crop_pct": 1.0,
        }  # fmt: skip
    return network


def _from_yaml(file: str, tasks: Any) -> nn.Module:
    """Return a network with new weights."""
    try:
        document = tasks.yaml_model_load(file)
        kind = tasks.guess_model_task(document)
        activation = str(document.get("activation") or "")
    except Exception as error:
        raise ModelError(f"{file} is no model of ultralytics: {one_line(error, 200)}") from error
    if kind not in _KINDS:
        raise ModelError(
            f"{file} is a model of the kind {kind!r}. Those for {', '.join(_KINDS)} can be refined."
        )
    if activation and not _ACTIVATION.fullmatch(activation):  # ultralytics evaluates it
        raise ModelError(
            f"{file} has the activation {activation!r:.80}. Write a class of torch.nn, such as "
            "nn.ReLU()."
        )
    made = getattr(tasks, _KINDS[kind])
    try:
        with quiet():
            network: nn.Module = made(file, verbose=False)
    except Exception as error:
        raise ModelError(f"{file} cannot be built: {one_line(error, 200)}") from error
    return _with_arguments(network, {"task": kind})


def class_names(model: Any) -> list[str]:
    """Return the names of a network's classes, in their order."""
    return [str(name) for _, name in sorted(model.names.items())]


def classifies(model: nn.Module) -> bool:
    """Return whether a network of ultralytics is a classifier."""
    return isinstance(model, require_ultralytics().nn.tasks.ClassificationModel)


def _with_arguments(network: nn.Module, given: dict[str, Any]) -> nn.Module:
    """Give a network the hyperparameters of its training, as its loss reads them."""
    named: Any = network
    named.args = given
    named.args = vars(hyperparameters(network))
    return network


def require_ultralytics() -> Any:
    """Return the package.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import ultralytics
        import ultralytics.nn.tasks
    except ImportError as error:
        raise ModelError(
            "this needs the package ultralytics. Install it: pip install ultralytics"
        ) from error
    return ultralytics


@contextmanager
def _kept_safe_globals() -> Iterator[None]:
    """Undo what ultralytics allows all later reads of pickles in this process to build."""
    allowed = torch.serialization.get_safe_globals()
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what ultralytics says of its progress from the screen."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def hyperparameters(network: nn.Module) -> SimpleNamespace:
    """Return the hyperparameters of a network's training; those missing have their defaults."""
    require_ultralytics()
    from ultralytics.utils import DEFAULT_CFG_DICT

    own = getattr(network, "args", {})
    return SimpleNamespace(**{**DEFAULT_CFG_DICT, **(own if isinstance(own, dict) else vars(own))})
