"""Operations that candidates put into a slot, each built for the slot's original conv.

All of them keep the conv's exact output size for every input size.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from refiner.graph.conv_spec import ConvSpec

Pools = dict[int, Callable[..., nn.Module]]
"""Classes of one kind of pool, by the number of spatial dimensions."""
MAX_POOL: Pools = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVG_POOL: Pools = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_CONV: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Pad(nn.Module):
    """Pads the spatial dimensions as a conv does; negative amounts crop them."""

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


def exact_padding(
    spec: ConvSpec, kernel: int, dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
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
    """Return ``make(padding=...)``, after a :class:`Pad` if it cannot pad like this itself."""
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
    return _with_padding(spec, exact_padding(spec, kernel, spec.dilation), True, make)


def _pointwise(spec: ConvSpec) -> nn.Module:
    return _CONV[len(spec.kernel_size)](spec.in_channels, spec.out_channels, 1, bias=spec.bias)


def _pool(spec: ConvSpec, kernel: int, kind: Pools) -> list[nn.Module]:
    """Return a pool without dilation. As in a conv, an average counts the zeros of the padding."""
    dims = len(spec.kernel_size)
    padding = exact_padding(spec, kernel, (1,) * dims)
    own = spec.padding_mode == "zeros" and all(p <= kernel // 2 for pair in padding for p in pair)
    if kind is AVG_POOL and dims == 3:
        own = False  # AvgPool3d refuses inputs that are smaller than its kernel before padding
    return _with_padding(spec, padding, own, partial(kind[dims], kernel, stride=spec.stride))


def in_sequence(modules: list[nn.Module]) -> nn.Module:
    """Return modules as one; a single one stays as it is."""
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def build_conv(spec: ConvSpec, *, kernel: int) -> nn.Module:
    """Return a conv with the slot's stride, dilation and groups, and another kernel."""
    conv = _conv(spec, kernel, groups=spec.groups, out_channels=spec.out_channels, bias=spec.bias)
    return in_sequence(conv)


def build_depthwise(spec: ConvSpec, *, kernel: int) -> nn.Module:
    """Return a depthwise conv with the slot's stride and dilation, and a pointwise conv."""
    depthwise = _conv(
        spec, kernel, groups=spec.in_channels, out_channels=spec.in_channels, bias=False
    )
    return in_sequence([*depthwise, _pointwise(spec)])


def build_pool(spec: ConvSpec, *, kernel: int, kind: Pools) -> nn.Module:
    """Return a pool with the slot's stride, and a pointwise conv."""
    return in_sequence([*_pool(spec, kernel, kind), _pointwise(spec)])


def build_plain_pool(spec: ConvSpec, *, kernel: int, kind: Pools) -> nn.Module:
    """Return only a pool with the slot's stride."""
    return in_sequence(_pool(spec, kernel, kind))


def _own_conv(spec: ConvSpec, *, groups: int, out_channels: int, bias: bool) -> list[nn.Module]:
    """Return the slot's conv with other groups or output channels and the same window."""
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


def build_shuffle(spec: ConvSpec, *, parts: int) -> nn.Module:
    """Return a channel shuffle, and the slot's conv in more groups, which then mix.

    Source: Zhang et al., ShuffleNet, 2018, section 3.1.
    """
    groups = spec.groups * parts
    conv = _own_conv(spec, groups=groups, out_channels=spec.out_channels, bias=spec.bias)
    return in_sequence([ChannelShuffle(groups), *conv])


class ChannelShuffle(nn.ChannelShuffle):
    """torch's channel shuffle, which both of its ONNX exporters know."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``, N x C x ..., with the channels of its groups interleaved."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return F.channel_shuffle(x, self.groups)
        else:  # noqa: RET505 - TorchScript then leaves this branch out
            return self._recorded(x)

    def _recorded(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same, for the older exporter by operations that it has."""
        if not torch.onnx.is_in_onnx_export():
            return F.channel_shuffle(x, self.groups)
        parts: torch.Tensor = x.unflatten(1, (self.groups, x.shape[1] // self.groups))
        return parts.transpose(1, 2).flatten(1, 2)


def divides(spec: ConvSpec, *, parts: int) -> bool:
    """Return whether the channels of a conv fall into ``parts`` times its groups."""
    groups = spec.groups * parts
    return spec.in_channels % groups == 0 and spec.out_channels % groups == 0


class LowRank(nn.Sequential):
    """The slot's conv with few output channels, and a pointwise conv to all channels.

    The best weights for given inputs have a closed form; see ``distill/fitting.py``.

    Source: Zhang et al., Accelerating Very Deep Convolutional Networks, 2016, section 3.1.
    """


def _rank(spec: ConvSpec, parts: int) -> int:
    """Return the most channels with which both convs have ``1 / parts`` of the slot's weights."""
    inputs = spec.in_channels * math.prod(spec.kernel_size)
    return inputs * spec.out_channels // (parts * (inputs + spec.out_channels))


def build_low_rank(spec: ConvSpec, *, parts: int) -> nn.Module:
    """Return a :class:`LowRank` with ``1 / parts`` of the slot's weights."""
    rank = _rank(spec, parts)
    pointwise = _CONV[len(spec.kernel_size)](rank, spec.out_channels, 1, bias=spec.bias)
    return LowRank(*_own_conv(spec, groups=1, out_channels=rank, bias=False), pointwise)


def has_rank(spec: ConvSpec, *, parts: int) -> bool:
    """Return whether a low-rank conv with ``1 / parts`` of the weights has any channel."""
    return spec.groups == 1 and _rank(spec, parts) > 0


def build_factorised(spec: ConvSpec) -> nn.Module:
    """Return a k x 1 and a 1 x k conv; between them are as many channels as at the smaller end.

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


def can_be_factorised(spec: ConvSpec) -> bool:
    """Return whether a conv has a 2-D window, and padding that two convs can have."""
    two = len(spec.kernel_size) == 2 and min(spec.kernel_size) > 1
    return two and all(before == after >= 0 for before, after in spec.padding)


class Identity(nn.Module):
    """Returns a copy of its input, since the next operation may work in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a copy of ``x``."""
        return x.clone()


def build_identity(_spec: ConvSpec) -> nn.Module:
    """Return an :class:`Identity`."""
    return Identity()


def keeps_shape(spec: ConvSpec) -> bool:
    """Return whether a conv's output has the shape of its input, for every input size."""
    return keeps_channels(spec) and keeps_size(spec)


def keeps_size(spec: ConvSpec) -> bool:
    """Return whether a conv's output has the spatial size of its input, for every input size."""
    spans = [d * (k - 1) for d, k in zip(spec.dilation, spec.kernel_size, strict=True)]
    padded = all(sum(pair) == span for pair, span in zip(spec.padding, spans, strict=True))
    return set(spec.stride) == {1} and padded


def has_other_kernel(spec: ConvSpec, *, kernel: int) -> bool:
    """Return whether a conv with that kernel differs from the slot's own."""
    return any(k != kernel for k in spec.kernel_size)


def is_spatial(spec: ConvSpec) -> bool:
    """Return whether a conv sees more than one pixel; otherwise a pool saves nothing."""
    return max(spec.kernel_size) > 1


def keeps_channels(spec: ConvSpec) -> bool:
    """Return whether a conv has as many output channels as input channels."""
    return spec.in_channels == spec.out_channels
