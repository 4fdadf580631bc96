"""The hyperparameters of a conv: all that a candidate needs to know about the conv it replaces."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from refiner.core.layers import CONV_TYPES
from refiner.core.randomness import seeded
from refiner.core.surgery import copied


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvSpec:
    """The hyperparameters of a conv over ``len(kernel_size)`` spatial dimensions."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    """(before, after) of each spatial dimension."""
    dilation: tuple[int, ...]
    groups: int
    bias: bool
    padding_mode: str

    def __str__(self) -> str:
        """Return a text such as ``conv3x3 64->128 /2``.

        Stride, dilation and groups appear where they are not 1.
        """
        text = f"conv{'x'.join(map(str, self.kernel_size))} {self.in_channels}->{self.out_channels}"
        if any(s != 1 for s in self.stride):
            text += f" /{max(self.stride)}"
        if any(d != 1 for d in self.dilation):
            text += f" dilation {max(self.dilation)}"
        return text + (f" groups {self.groups}" if self.groups != 1 else "")

    @property
    def parameters(self) -> int:
        """Number of parameters of torch's own conv."""
        weight = self.out_channels * self.in_channels // self.groups * math.prod(self.kernel_size)
        return weight + (self.out_channels if self.bias else 0)

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial output size for a spatial input size."""
        return tuple(
            (n + before + after - d * (k - 1) - 1) // s + 1
            for n, (before, after), d, k, s in zip(
                size, self.padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        )


def conv_spec(
    conv: nn.Module, in_shape: Sequence[int] = (), out_shape: Sequence[int] = ()
) -> ConvSpec:
    """Return the hyperparameters of a Conv1d, Conv2d or Conv3d, with ``padding='same'`` resolved.

    A subclass may pad its input itself to keep the size, as timm's Conv2dSame does at stride 1.
    It is recognised by the shapes of its input and output, if they are given.
    """
    assert isinstance(conv, CONV_TYPES)
    spans = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    keeps_size = bool(in_shape) and tuple(in_shape[2:]) == tuple(out_shape[2:])
    if conv.padding == "same" or (
        keeps_size and type(conv) not in CONV_TYPES and set(conv.stride) == {1}
    ):
        padding = tuple((span // 2, span - span // 2) for span in spans)
    elif conv.padding == "valid":
        padding = tuple((0, 0) for _ in spans)
    else:
        padding = tuple((int(p), int(p)) for p in conv.padding)
    return ConvSpec(
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        kernel_size=tuple(conv.kernel_size),
        stride=tuple(conv.stride),
        padding=padding,
        dilation=tuple(conv.dilation),
        groups=conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )


def _enough(size: int, kernel: int, dilation: int, stride: int) -> int:
    """Return a size up to ``size``, equal to it modulo the stride, that holds whole windows."""
    wanted = 3 * dilation * (kernel - 1) + 2 * stride + 1
    return min(size, wanted + (size - wanted) % stride)


_SCALES = (100.0, 0.01)
"""Of further numbers that a conv is probed with: layers may clip large ones or drop small ones."""


def is_plain_conv(conv: nn.Module, spec: ConvSpec, in_shape: Sequence[int]) -> bool:
    """Return whether a subclass computes what a conv of ``spec`` does, with any weight.

    It has to be affine in its input, at zero and at numbers of several sizes, and each output may
    only read the window that ``spec`` gives. A NaN proves neither. The meta device has no
    values to check this with, so there the answer is always yes.
    """
    if any(p.is_meta for p in conv.parameters()):
        return True
    work = copied(conv).eval()
    generator = torch.Generator().manual_seed(0)
    like = next(conv.parameters())
    shape = (
        3,
        in_shape[1],
        *map(_enough, in_shape[2:], spec.kernel_size, spec.dilation, spec.stride),
    )
    x = torch.randn(shape, generator=generator).to(like)
    with torch.enable_grad(), seeded(0):
        try:
            return _is_affine(work, x) and _reads_its_window(work, spec, x[:1])
        except Exception:
            return False


def _is_affine(work: nn.Module, x: torch.Tensor) -> bool:
    """Return whether sums and multiples of inputs give those of outputs, whatever their size."""
    first, second, third = x.split(1)
    none, one, two, three = (work(v).detach() for v in (0 * first, first, second, third))
    both, mixed = work(first + second).detach(), work(first + second - third).detach()
    # Matrix units of a GPU, and 16-bit numbers, round to three digits.
    eps = torch.finfo(x.dtype).eps
    share = 1e-3 if x.device.type == "cpu" and eps < 1e-6 else 1e-2

    def near(error: torch.Tensor, size: torch.Tensor, scale: float = 1.0) -> bool:
        most = share * size.abs().max() + 8 * eps * max(scale, 1.0) * none.abs().max()
        return bool((error.abs() <= most).all())  # a NaN is never within

    sums = torch.stack([one, two, three, both, mixed])
    if not near(torch.stack([both - one - two + none, mixed - one - two + three]), sums):
        return False
    for scale in _SCALES:
        expected = scale * (one - none)
        if not near(work(scale * first).detach() - none - expected, expected, scale):
            return False
    return True


def _reads_its_window(work: nn.Module, spec: ConvSpec, x: torch.Tensor) -> bool:
    """Return whether the output in the middle reads no place outside of its window."""
    x = x.clone().requires_grad_()
    output = work(x)
    middle = tuple(n // 2 for n in output.shape[2:])
    gradients: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
        output[(0, slice(None), *middle)].sum(), x, allow_unused=True
    )
    read = gradients[0]
    if read is None:
        return True
    for axis, position in enumerate(middle):
        others = [d for d in range(read.dim()) if d != axis + 2]
        touched = read.abs().amax(others).nonzero().flatten()  # a NaN counts as touched
        start = position * spec.stride[axis] - spec.padding[axis][0]
        end = start + spec.dilation[axis] * (spec.kernel_size[axis] - 1)
        if len(touched) and (touched.min() < start or touched.max() > end):
            return False
    return True
