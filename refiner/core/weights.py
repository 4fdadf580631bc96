"""Load weights into a model: from any common container, without the prefixes of wrappers."""

import copy
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from refiner.core.errors import ModelError, one_line
from refiner.core.weight_files import read_weights
from refiner.core.weight_fit import Fit, Shape, State, best_fit, shape, shapes

_CONTAINERS = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network",
    "weights", "params", "state", "ema", "model_ema", "state_dict_ema", "ema_state_dict",
    "params_ema", "backbone", "encoder",
)  # fmt: skip
"""Keys under which training scripts keep a state dict, in the order of preference."""
_DEPTH = 3
_SHOWN = 4
"""Keys that a message lists."""


def load_weights(model: nn.Module, file: str | os.PathLike[str], *, trust: bool = False) -> None:
    """Load a file of weights, safetensors or a state dict that torch saved, into a model.

    The state dict may lie in a checkpoint of a training script, under a key such as ``state_dict``,
    ``model`` or ``ema``. Prefixes of wrappers (``module.``, ``_orig_mod.``, ``model.``, or any
    other that all weights of the network share) are stripped where the result fits.

    Args:
        model: is changed in place; it stays as it is where the weights do not fit.
        file: of the weights.
        trust: whether to unpickle objects too, which can run code of whoever made the file.

    Raises:
        ModelError: there is no such file, or it does not fit.
    """
    path = Path(file)
    content = read_weights(path, trust=trust)
    states = list(_states(content))
    if not states:
        raise ModelError(
            f"{path} holds no weights, but {_described(content)}. Save them with "
            "torch.save(model.state_dict(), FILE)."
        )
    wanted = shapes(model)
    fits = [best_fit(state, wanted) for state in states]
    for fit in fits:
        if fit.whole:
            _load(model, fit, path)
            return
    for state in states:  # a model may rename older keys itself
        trial = copy.deepcopy(model)
        try:
            trial.load_state_dict(state)
        except Exception:  # hooks of the model's own may raise anything
            continue
        _check_numbers(model, state, path)
        model.load_state_dict(state)
        return
    best = max(fits, key=lambda fit: len(fit.fitting))
    raise ModelError(f"the weights of {path} do not fit: {_misfit(best)}")


def _check_numbers(model: nn.Module, state: State, path: Path) -> None:
    """Raise a ModelError for integers and complex numbers where the network has real ones."""
    own = model.state_dict()
    for key, value in state.items():
        ours = own.get(key)
        if not isinstance(value, torch.Tensor) or not isinstance(ours, torch.Tensor):
            continue
        if ours.is_floating_point() and not value.is_floating_point():
            theirs, wanted = (str(t.dtype).removeprefix("torch.") for t in (value, ours))
            raise ModelError(
                f"{key} of {path} is {theirs}, and the network's is {wanted}. Name weights before "
                "quantisation."
            )


def _load(model: nn.Module, fit: Fit, path: Path) -> None:
    state = fit.state
    _check_numbers(model, state, path)
    if not hasattr(state, "_metadata") and not fit.missing:
        # A safetensors file has no versions; without them modules take it for an old one.
        state = OrderedDict(state)
        state._metadata = getattr(model.state_dict(), "_metadata", {})  # type: ignore[attr-defined]
    try:
        model.load_state_dict(state)
    except Exception as error:
        raise ModelError(
            f"the weights of {path} cannot be loaded: {one_line(error, 200)}. Name a file of "
            "weights of this very network."
        ) from error


def _states(content: object, depth: int = 0) -> Iterator[State]:
    """Yield the state dicts in a file's content, those that trainers mean first."""
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping) or depth > _DEPTH:
        return
    named = all(isinstance(key, str) for key in content)
    if named and any(isinstance(value, torch.Tensor) for value in content.values()):
        yield content
    keys = [key for key in _CONTAINERS if key in content]
    rest = [key for key in content if isinstance(key, str) and key not in _CONTAINERS]
    for key in (*keys, *rest):
        if key != "optimizer" and isinstance(content[key], Mapping | nn.Module):
            yield from _states(content[key], depth + 1)


def _misfit(fit: Fit) -> str:
    """Return in which way a state does not fit, and the next step."""
    wanted = fit.wanted
    if not fit.fitting and not fit.reshaped:
        return (
            f"they are of another network. It has {_listed(list(wanted))}; the file has "
            f"{_listed(list(fit.state))}. Name weights of this very network."
        )
    if fit.reshaped and not fit.unknown and not fit.missing:
        change = _one_change(fit)
        if change is not None:
            return change
    parts = [f"{len(fit.fitting)} of {len(wanted)} tensors of this network fit"]
    if fit.missing:
        parts.append(f"{_are(fit.missing)} missing in the file ({_listed(fit.missing)})")
    if fit.unknown:
        parts.append(f"{_are(fit.unknown)} unknown here ({_listed(fit.unknown)})")
    if fit.reshaped:
        shapes = [
            f"{key} {_size(shape(fit.state[key]))} for {_size(wanted[key])}"
            for key in fit.reshaped[:_SHOWN]
        ]
        parts.append(f"{len(fit.reshaped)} with another shape ({_listed(shapes, fit.reshaped)})")
    return "; ".join(parts) + ". Name weights of this very network, built with equal arguments."


def _one_change(fit: Fit) -> str | None:
    """Return the one thing in which the shapes differ: classes, or input channels."""
    pairs = [(shape(fit.state[key]) or (), fit.wanted[key] or ()) for key in fit.reshaped]
    first = fit.reshaped[0]
    outputs = {(a[0], b[0]) for a, b in pairs if len(a) == len(b) > 0 and a[1:] == b[1:]}
    if len(outputs) == 1 and len(pairs) <= _SHOWN and all(a[1:] == b[1:] for a, b in pairs):
        (theirs, ours), *_ = outputs
        names = [key for key in fit.state if key in fit.wanted]
        if names.index(first) >= len(names) // 2:
            return (
                f"they have {theirs} classes and the network has {ours} ({first}). Take data of "
                f"{theirs} classes, or build the network with --model-arg num_classes={theirs}."
            )
    if len(pairs) == 1 and len(pairs[0][0]) == len(pairs[0][1]) > 2:
        (theirs_, ours_) = pairs[0]
        if (theirs_[0], theirs_[2:]) == (ours_[0], ours_[2:]):
            return (
                f"{first} reads {theirs_[1]} input channels there and {ours_[1]} here. Build the "
                "network for as many."
            )
    return None


def _are(names: Sequence[str]) -> str:
    return f"{len(names)} {'is' if len(names) == 1 else 'are'}"


def _listed(names: Sequence[str], whole: Sequence[str] | None = None) -> str:
    more = len(names if whole is None else whole) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _described(content: object) -> str:
    """Return what a file holds instead of weights."""
    if isinstance(content, torch.Tensor):
        return f"one tensor of {_size(tuple(content.shape))}"
    if isinstance(content, Mapping):
        return f"a dict of {_listed([str(key) for key in content])}" if content else "an empty dict"
    kind = type(content).__name__
    return f"a {kind} of {len(content)}" if isinstance(content, list | tuple) else f"a {kind}"


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar" if shape is not None else "no tensor"
