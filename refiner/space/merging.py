"""The convs of a channel group as one conv, which reads the input of the group.

Without what lies between them, convs in a row are one conv, with the product of their strides. Its
kernel may be large: 5x5 for two convs of 3x3. A smaller one in its place keeps the output size.

The sources take activations away, multiply the weights out and train the network. Here the weights
are fitted (``distill/original.py``), so the model's own activations may stay between the convs.

Sources: Kim et al., Efficient Latency-Aware CNN Depth Compression via Two-Stage Dynamic
Programming, 2023 (arXiv 2301.12187), for one conv in place of several; Kim et al., LayerMerge, 2024
(arXiv 2406.12837), where convs that become identities keep its kernel small.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from refiner.graph.conv_spec import ConvSpec
from refiner.graph.slots import ConvSite, Slot
from refiner.space.operations import keeps_size

MOST_READ = 512 * 3**2
"""Most numbers that a merged conv reads at a position. Its fit needs the products of all pairs: 340
MB here, and 5 GB for a kernel of 3x3 over the 2048 channels of a bottleneck."""


def merged_spec(specs: Sequence[ConvSpec]) -> ConvSpec:
    """Return the hyperparameters of the dense conv that convs in a row are together.

    For every input size it has the output size that they have together, as the output size of each
    is rounded down. Channels and bias are those at the ends.
    """
    first, last = specs[0], specs[-1]
    axes = range(len(first.kernel_size))
    stride, span = [1 for _ in axes], [0 for _ in axes]
    padding = [(0, 0) for _ in axes]
    for spec in specs:
        for axis in axes:
            before, after = spec.padding[axis]
            start, end = padding[axis]
            padding[axis] = start + stride[axis] * before, end + stride[axis] * after
            span[axis] += stride[axis] * spec.dilation[axis] * (spec.kernel_size[axis] - 1)
            stride[axis] *= spec.stride[axis]
    padded = (spec.padding_mode for spec in specs if any(map(any, spec.padding)))
    return ConvSpec(
        in_channels=first.in_channels,
        out_channels=last.out_channels,
        kernel_size=tuple(each + 1 for each in span),
        stride=tuple(stride),
        padding=tuple(padding),
        dilation=(1,) * len(axes),
        groups=1,
        bias=last.bias,
        padding_mode=next(padded, "zeros"),
    )


def merged_sites(slot: Slot, *, kernel: int) -> tuple[ConvSite, ...] | None:
    """Return the sites of a channel group where all but the last pass their input on.

    The norms between the convs go. The last site is that of the merged conv.

    Where a pool between two convs changes the size, only the convs after it are merged. Those
    before it must keep the size, so that the pool gives the right one.

    It is None for a slot that is no group, where the size would be wrong, where ``kernel`` is
    larger than what the group reads, and above ``MOST_READ``.
    """
    if not slot.is_group:
        return None
    pairs = enumerate(pairwise(slot.sites), start=1)
    resized = [i for i, (one, next_) in pairs if one.out_shape[2:] != next_.in_shape[2:]]
    start = max(resized, default=0)
    if not all(keeps_size(site.spec) for site in slot.sites[:start]):
        return None
    spec = merged_spec([site.spec for site in slot.sites[start:]])
    channels = slot.sites[0].spec.in_channels
    read = channels * kernel ** len(spec.kernel_size)
    if min(spec.kernel_size) < kernel or read > MOST_READ:
        return None
    found = []
    for i, site in enumerate(slot.sites):
        size = slot.sites[min(i, start)].in_shape[2:]
        passed = (*site.in_shape[:1], channels, *size)
        found.append(replace(site.bare, in_shape=passed, out_shape=passed))
    found[-1] = replace(
        slot.sites[-1], spec=replace(spec, in_channels=channels), in_shape=found[-1].in_shape
    )
    return tuple(found)
