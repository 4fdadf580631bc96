"""Where the tensors of a state dict fit into a network, under its names or without a prefix."""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

State: TypeAlias = Mapping[str, Any]
"""Tensors by name, and extra state."""
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Names that wrappers put anywhere into a path: DataParallel, torch.compile, FSDP."""

Shape: TypeAlias = tuple[int, ...] | None


def shapes(model: nn.Module) -> dict[str, Shape]:
    """Return the shape of each tensor of a model; None if it has none yet, or is not a tensor."""
    return {name: shape(value) for name, value in model.state_dict().items()}


def shape(value: object) -> Shape:
    """Return the shape of a tensor; None if it has none yet, or is not a tensor."""
    if not isinstance(value, torch.Tensor) or nn.parameter.is_lazy(value):
        return None
    return tuple(value.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How far a state dict fits a network."""

    state: State
    """With the names of the network where a prefix was stripped."""
    wanted: Mapping[str, Shape]
    fitting: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    reshaped: tuple[str, ...]
    """Of other shapes."""

    @property
    def whole(self) -> bool:
        """Whether every tensor has its place; norm counters may be missing, as in old files."""
        absent = [key for key in self.missing if not key.endswith("num_batches_tracked")]
        return not (absent or self.unknown or self.reshaped)


def best_fit(state: State, wanted: Mapping[str, Shape]) -> Fit:
    """Return the state under the names of the network that let most of it fit."""
    plain = _without_wrappers(state, wanted)
    fits = [_fit(each, wanted) for each in (state, plain)]
    for prefix in _prefixes(plain, wanted):
        inner = {key: value for key, value in plain.items() if key.startswith(prefix)}
        fits.append(_fit(_renamed(inner, lambda key, p=prefix: key[len(p) :], plain), wanted))
    return max(fits, key=lambda fit: (fit.whole, len(fit.fitting), -len(fit.unknown)))


def _without_wrappers(state: State, wanted: Mapping[str, Shape]) -> State:
    """Return the state without the names of wrappers, as far as the network has none of them."""
    own = {part for key in wanted for part in key.split(".")}
    drop = {name for name in _WRAPPERS if name not in own}

    def plain(key: str) -> str:
        return ".".join(part for part in key.split(".") if part not in drop)

    if len({plain(key) for key in state}) < len(state):
        return state
    return _renamed(state, plain, state)


def _prefixes(state: State, wanted: Mapping[str, Shape]) -> list[str]:
    """Return the prefixes without which most keys of a state name tensors of the network."""
    votes: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        for i in range(1, len(parts)):
            if ".".join(parts[i:]) in wanted:
                votes[".".join(parts[:i]) + "."] += 1
    return [prefix for prefix, _ in votes.most_common(8)]


def _renamed(state: State, rename: Any, whole: State) -> State:
    """Return a state under other names, with the versions of its modules."""
    renamed = OrderedDict((rename(key), value) for key, value in state.items())
    metadata = getattr(whole, "_metadata", None)
    if isinstance(metadata, Mapping):
        versions = OrderedDict(
            (rename(f"{name}.").rstrip("."), value)
            for name, value in metadata.items()
            if isinstance(name, str)
        )
        versions.setdefault("", metadata.get("", {}))
        renamed._metadata = versions  # type: ignore[attr-defined]
    return renamed


def _fit(state: State, wanted: Mapping[str, Shape]) -> Fit:
    shared = [key for key in wanted if key in state]
    reshaped = [
        key for key in shared if wanted[key] is not None and shape(state[key]) != wanted[key]
    ]
    return Fit(
        state=state,
        wanted=wanted,
        fitting=tuple(key for key in shared if key not in set(reshaped)),
        missing=tuple(key for key in wanted if key not in state),
        unknown=tuple(key for key in state if key not in wanted),
        reshaped=tuple(reshaped),
    )
