"""Many tensors in few: what is reduced over processes goes in buckets, not tensor by tensor."""

from collections.abc import Callable, Iterable, Iterator

import torch

_LARGEST = 64 * 2**20
"""Bytes of a bucket; a larger tensor has one of its own."""


def buckets(
    tensors: Iterable[torch.Tensor], largest: int = _LARGEST
) -> Iterator[list[torch.Tensor]]:
    """Yield the tensors in lists of one type and of at most ``largest`` bytes, in their order."""
    open_lists: dict[torch.dtype, list[torch.Tensor]] = {}
    filled: dict[torch.dtype, int] = {}
    for tensor in tensors:
        size, kind = tensor.numel() * tensor.element_size(), tensor.dtype
        if kind in open_lists and filled[kind] + size > largest:
            yield open_lists.pop(kind)
        if kind not in open_lists:
            open_lists[kind], filled[kind] = [], 0
        open_lists[kind].append(tensor)
        filled[kind] += size
    yield from open_lists.values()


def replace_by(
    reduced: Callable[[torch.Tensor], torch.Tensor], tensors: Iterable[torch.Tensor]
) -> None:
    """Write into each tensor what ``reduced`` returns for its numbers; it gets whole buckets."""
    with torch.no_grad():
        for bucket in buckets(tensors):
            flat = reduced(torch.cat([tensor.reshape(-1) for tensor in bucket]))
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))
