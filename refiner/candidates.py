"""Candidates: the operations that may fill a slot, and the one table that lists them.

The paper's candidates (section 3.4) as its tables fix them: every one but the convs mixes channels
with a pointwise conv, also where the channel count stays. All of them give the slot's exact output
size for every input size. Parameter-free pools have names of their own, ``plain_*``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from refiner.conv_spec import ConvSpec
from refiner.errors import ConfigError

ORIGINAL = "original"
"""Name of index 0 of every slot: the operation as it came."""

PAPER_CANDIDATES = ("conv3x3", "depthwise3x3", "maxpool3x3", "avgpool3x3")
"""What the paper's experiments offer, in the order of its indices."""

DEFAULT_CANDIDATES = (*PAPER_CANDIDATES, "lowrank2", "lowrank4")
"""The paper's, and those that keep most of what a trained conv has learned."""

FURTHER_CANDIDATES = ("shuffle2", "shuffle4", "factorised", "identity")
"""What pointwise and grouped convs are offered as well, where these are slots."""

_Pools = dict[int, Callable[..., nn.Module]]
_CONV: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_MAX_POOL: _Pools = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVG_POOL: _Pools = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


def _fits_every_slot(_spec: ConvSpec) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An operation that may fill a slot."""

    name: str
    build: Callable[[ConvSpec], nn.Module]
    """Makes the operation for a slot's conv: same input and output shape, no norm."""
    fits: Callable[[ConvSpec], bool] = _fits_every_slot
    """Whether the operation is offered to a slot at all; shape and parameters are checked apart."""


_TABLE: dict[str, Candidate] = {}


def register_candidate(
    name: str,
    build: Callable[[ConvSpec], nn.Module],
    *,
    fits: Callable[[ConvSpec], bool] = _fits_every_slot,
) -> Candidate:
    """Add an operation of your own, to be named in ``candidates=``.

    Args:
        name: a new name.
        build: makes the module for a slot, given the hyperparameters of the slot's conv. Whatever
            the input size, its output must have the shape of that conv's output.
        fits: returns whether a slot is offered the operation.

    Raises:
        ConfigError: the name is taken.
    """
    if name in _TABLE or name == ORIGINAL:
        raise ConfigError(f"candidate {name!r} is registered already. Choose another name.")
    candidate = Candidate(name=name, build=build, fits=fits)
    _TABLE[name] = candidate
    return candidate


def candidate_names() -> tuple[str, ...]:
    """Return the names of all registered candidates."""
    return tuple(_TABLE)


def get_candidate(name: str) -> Candidate:
    """Return the candidate of that name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return _TABLE[name]
    except KeyError:
        raise ConfigError(
            f"unknown candidate {name!r}. Choose from: {', '.join(_TABLE)}, "
            "or register your own with refiner.register_candidate."
        ) from None


class Pad(nn.Module):
    """Pads, or with negative amounts crops, the spatial dimensions as a conv would."""

    def __init__(self, padding: tuple[tuple[int, int], ...], mode: str) -> None:
        super().__init__()
        self.amounts = [amount for pair in reversed(padding) for amount in pair]
        self.mode = "constant" if mode == "zeros" else mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``, N x C x spatial, with its spatial dimensions padded."""
        return F.pad(x, self.amounts, self.mode)

    def extra_repr(self) -> str:
        """Return the amounts, last dimension first, and the mode."""
        return f"{self.amounts}, mode={self.mode}"


def _padding(spec: ConvSpec, kernel: int, dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return the (before, after) with which another kernel gives the slot's exact output size.

    The output size is ``(n + padding - dilation * (kernel - 1) - 1) // stride + 1``: it stays for
    every ``n`` if ``padding - dilation * (kernel - 1)`` stays.
    """
    pads = []
    for (before, after), k, d, new in zip(
        spec.padding, spec.kernel_size, spec.dilation, dilation, strict=True
    ):
        total = before + after - d * (k - 1) + new * (kernel - 1)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def _with_padding(
    spec: ConvSpec, padding: tuple[tuple[int, int], ...], own: bool, make: Callable[..., nn.Module]
) -> list[nn.Module]:
    """Return ``make(padding=...)``, with a :class:`Pad` before it where it cannot pad so itself."""
    if own and all(before == after >= 0 for before, after in padding):
        return [make(padding=tuple(before for before, _ in padding))]
    return [Pad(padding, spec.padding_mode), make(padding=0)]


def _conv(
    spec: ConvSpec, kernel: int, *, groups: int, out_channels: int, bias: bool
) -> list[nn.Module]:
    """Return a conv with the slot's stride and dilation and another kernel."""
    dims = len(spec.kernel_size)
    make = partial(
        _CONV[dims],
        spec.in_channels,
        out_channels,
        kernel,
        stride=spec.stride,
        dilation=spec.dilation,
        groups=groups,
        bias=bias,
        padding_mode=spec.padding_mode,
    )
    return _with_padding(spec, _padding(spec, kernel, spec.dilation), True, make)


def _pointwise(spec: ConvSpec) -> nn.Module:
    return _CONV[len(spec.kernel_size)](spec.in_channels, spec.out_channels, 1, bias=spec.bias)


def _pool(spec: ConvSpec, kernel: int, kind: _Pools) -> list[nn.Module]:
    """Return a pool, without dilation. As in a conv, an average counts the zeros of the padding."""
    dims = len(spec.kernel_size)
    padding = _padding(spec, kernel, (1,) * dims)
    own = spec.padding_mode == "zeros" and all(p <= kernel // 2 for pair in padding for p in pair)
    if kind is _AVG_POOL and dims == 3:
        own = False  # AvgPool3d refuses inputs smaller than its kernel, its own padding left aside
    return _with_padding(spec, padding, own, partial(kind[dims], kernel, stride=spec.stride))


def _chain(modules: list[nn.Module]) -> nn.Module:
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def _build_conv(spec: ConvSpec, *, kernel: int) -> nn.Module:
    conv = _conv(spec, kernel, groups=spec.groups, out_channels=spec.out_channels, bias=spec.bias)
    return _chain(conv)


def _build_depthwise(spec: ConvSpec, *, kernel: int) -> nn.Module:
    depthwise = _conv(
        spec, kernel, groups=spec.in_channels, out_channels=spec.in_channels, bias=False
    )
    return _chain([*depthwise, _pointwise(spec)])


def _build_pool(spec: ConvSpec, *, kernel: int, kind: _Pools) -> nn.Module:
    return _chain([*_pool(spec, kernel, kind), _pointwise(spec)])


def _build_plain_pool(spec: ConvSpec, *, kernel: int, kind: _Pools) -> nn.Module:
    return _chain(_pool(spec, kernel, kind))


def _own_conv(spec: ConvSpec, *, groups: int, out_channels: int, bias: bool) -> list[nn.Module]:
    """Return the slot's conv with other groups or channels, its window as it is."""
    make = partial(
        _CONV[len(spec.kernel_size)],
        spec.in_channels,
        out_channels,
        spec.kernel_size,
        stride=spec.stride,
        dilation=spec.dilation,
        groups=groups,
        bias=bias,
        padding_mode=spec.padding_mode,
    )
    return _with_padding(spec, spec.padding, True, make)


def _build_shuffle(spec: ConvSpec, *, parts: int) -> nn.Module:
    """Return the slot's conv in more groups, behind a channel shuffle by which each group sees all.

    Source: Zhang et al., ShuffleNet, 2018, section 3.1.
    """
    groups = spec.groups * parts
    conv = _own_conv(spec, groups=groups, out_channels=spec.out_channels, bias=spec.bias)
    return _chain([nn.ChannelShuffle(groups), *conv])


def _divides(spec: ConvSpec, *, parts: int) -> bool:
    groups = spec.groups * parts
    return spec.in_channels % groups == 0 and spec.out_channels % groups == 0


class LowRank(nn.Sequential):
    """The slot's conv to few channels, and a pointwise conv from these to all.

    The best one for given inputs is known in closed form; see distillation.py.

    Source: Zhang et al., Accelerating Very Deep Convolutional Networks, 2016, section 3.1.
    """


def _rank(spec: ConvSpec, parts: int) -> int:
    """Return the most channels with which the two convs have one of ``parts`` of the slot's weights."""
    inputs = spec.in_channels * math.prod(spec.kernel_size)
    return inputs * spec.out_channels // (parts * (inputs + spec.out_channels))


def _build_low_rank(spec: ConvSpec, *, parts: int) -> nn.Module:
    rank = _rank(spec, parts)
    pointwise = _CONV[len(spec.kernel_size)](rank, spec.out_channels, 1, bias=spec.bias)
    return LowRank(*_own_conv(spec, groups=1, out_channels=rank, bias=False), pointwise)


def _has_rank(spec: ConvSpec, *, parts: int) -> bool:
    return spec.groups == 1 and _rank(spec, parts) > 0


def _build_factorised(spec: ConvSpec) -> nn.Module:
    """Return a k x 1 and a 1 x k conv with the channels of the smaller side between them.

    Source: Szegedy et al., Rethinking the Inception Architecture, 2016, section 3.2.
    """
    (high, wide), (down, across) = spec.kernel_size, spec.stride
    (top, left), between = spec.padding, min(spec.in_channels, spec.out_channels)
    make = partial(_CONV[2], groups=spec.groups, padding_mode=spec.padding_mode)
    return nn.Sequential(
        make(
            spec.in_channels,
            between,
            (high, 1),
            stride=(down, 1),
            padding=(top[0], 0),
            dilation=(spec.dilation[0], 1),
            bias=False,
        ),
        make(
            between,
            spec.out_channels,
            (1, wide),
            stride=(1, across),
            padding=(0, left[0]),
            dilation=(1, spec.dilation[1]),
            bias=spec.bias,
        ),
    )


def _can_be_factorised(spec: ConvSpec) -> bool:
    two = len(spec.kernel_size) == 2 and min(spec.kernel_size) > 1
    return two and all(before == after >= 0 for before, after in spec.padding)


class Identity(nn.Module):
    """Gives a copy of its input, which what follows may change in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a copy of ``x``."""
        return x.clone()


def _build_identity(_spec: ConvSpec) -> nn.Module:
    return Identity()


def _keeps_shape(spec: ConvSpec) -> bool:
    spans = [d * (k - 1) for d, k in zip(spec.dilation, spec.kernel_size, strict=True)]
    padded = all(sum(pair) == span for pair, span in zip(spec.padding, spans, strict=True))
    return _keeps_channels(spec) and set(spec.stride) == {1} and padded


def _has_other_kernel(spec: ConvSpec, *, kernel: int) -> bool:
    """Return whether a conv with that kernel would be another operation than the slot's own."""
    return any(k != kernel for k in spec.kernel_size)


def _is_spatial(spec: ConvSpec) -> bool:
    """Return whether a conv sees more than one pixel: a pool before a pointwise conv wins nothing."""
    return max(spec.kernel_size) > 1


def _keeps_channels(spec: ConvSpec) -> bool:
    return spec.in_channels == spec.out_channels


for _k in (3, 5):
    register_candidate(
        f"conv{_k}x{_k}",
        partial(_build_conv, kernel=_k),
        fits=partial(_has_other_kernel, kernel=_k),
    )
for _k in (3, 5):
    register_candidate(f"depthwise{_k}x{_k}", partial(_build_depthwise, kernel=_k))
for _name, _kind in (("maxpool3x3", _MAX_POOL), ("avgpool3x3", _AVG_POOL)):
    register_candidate(_name, partial(_build_pool, kernel=3, kind=_kind), fits=_is_spatial)
for _name, _kind in (("maxpool3x3", _MAX_POOL), ("avgpool3x3", _AVG_POOL)):
    register_candidate(
        f"plain_{_name}", partial(_build_plain_pool, kernel=3, kind=_kind), fits=_keeps_channels
    )
for _parts in (2, 4):
    register_candidate(
        f"shuffle{_parts}",
        partial(_build_shuffle, parts=_parts),
        fits=partial(_divides, parts=_parts),
    )
for _parts in (2, 4):
    register_candidate(
        f"lowrank{_parts}",
        partial(_build_low_rank, parts=_parts),
        fits=partial(_has_rank, parts=_parts),
    )
register_candidate("factorised", _build_factorised, fits=_can_be_factorised)
register_candidate("identity", _build_identity, fits=_keeps_shape)
