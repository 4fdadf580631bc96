"""What stays of a removed branch: one channel of the right size, and a number for each channel."""

from dataclasses import replace

import torch
from torch import nn

from refiner.graph.conv_spec import ConvSpec
from refiner.graph.slots import ConvSite, Slot
from refiner.space.operations import MAX_POOL, Pad, exact_padding, in_sequence


class FirstChannel(nn.Module):
    """Returns a copy of the first channel of its input, N x 1 x spatial."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a copy, since the next operation may work in place."""
        return x[:, :1].clone()


class Constant(nn.Module):
    """Returns one number for each channel, the same at every position and for every input.

    Its input, N x 1 x spatial, only gives the size and the dtype of its output, N x C x spatial.
    The best numbers for given outputs are their means; see ``distill/constant_fit.py``.
    """

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(channels, *[1] * dims))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the numbers, without a gradient for ``x``."""
        return torch.zeros_like(x) + self.value.to(x.dtype)

    def extra_repr(self) -> str:
        """Return the number of channels."""
        return f"{len(self.value)}"


def _positions(spec: ConvSpec) -> list[nn.Module]:
    """Return a copy of one channel at as many positions as the conv's output has."""
    dims = len(spec.kernel_size)
    padding = exact_padding(spec, 1, (1,) * dims)
    modules: list[nn.Module] = [FirstChannel()]
    if any(amount for pair in padding for amount in pair):
        modules.append(Pad(padding, "zeros"))
    if set(spec.stride) != {1}:
        modules.append(MAX_POOL[dims](1, stride=spec.stride))
    return modules


def build_one_channel(spec: ConvSpec) -> nn.Module:
    """Return the first channel of the input, at as many positions as the conv's output has."""
    return in_sequence(_positions(spec))


def build_constant(spec: ConvSpec) -> nn.Module:
    """Return a :class:`Constant` of the size of the conv's output."""
    return in_sequence([*_positions(spec), Constant(spec.out_channels, len(spec.kernel_size))])


def branch_sites(slot: Slot) -> tuple[ConvSite, ...] | None:
    """Return the sites of a branch with one channel between them and without norms.

    It is None for a slot that is no whole residual branch.
    """
    if not slot.is_branch:
        return None
    last = len(slot.sites) - 1
    return tuple(
        replace(
            site.bare,
            in_shape=_with_channels(site.in_shape, 1) if i else site.in_shape,
            out_shape=_with_channels(site.out_shape, 1) if i < last else site.out_shape,
        )
        for i, site in enumerate(slot.sites)
    )


def _with_channels(shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    return (*shape[:1], channels, *shape[2:])
