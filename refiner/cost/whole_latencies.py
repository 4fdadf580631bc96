"""Time whole networks of some architectures, and correct a table of their parts by them.

Milliseconds are not a sum: caches, threads and the layout of data between slots add their own.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from refiner.core.progress import Progress, Silent
from refiner.core.randomness import derive_seed
from refiner.cost.deployment import Deployment
from refiner.cost.latency_scales import scales_of
from refiner.cost.latency_table import Anchor, LatencyTable
from refiner.runtimes.timing import Patience, ratio, timed_networks
from refiner.space.architecture import Architecture, Vector
from refiner.space.candidates import ORIGINAL
from refiner.space.rewriting import rewrite
from refiner.space.search_space import SearchSpace

WHOLE_PATIENCE = Patience(repeats=8, most=16, warm_up=2, noise=0.005)
_TOGETHER = 2
"""Networks that are held at once, beside the original, each in some copies."""


def random_vectors(space: SearchSpace, count: int) -> list[Vector]:
    """Return random architectures, the first with few swaps and the last with many."""
    generator = torch.Generator().manual_seed(derive_seed(0, "anchors"))
    vectors = []
    for i in range(count):
        swapped = torch.rand(len(space.slots), generator=generator) < (i + 1) / count
        vectors.append(
            tuple(
                int(torch.randint(len(names), (), generator=generator)) if swap else 0
                for names, swap in zip(space.candidates, swapped.tolist(), strict=True)
            )
        )
    return vectors


def anchored(
    table: LatencyTable,
    space: SearchSpace,
    vectors: Sequence[Vector],
    model: nn.Module,
    deployment: Deployment,
    *,
    patience: Patience = WHOLE_PATIENCE,
    progress: Progress | None = None,
) -> LatencyTable:
    """Return a table with scales that also go by some whole networks.

    Args:
        table: of candidates.
        space: slots and candidates, all of them in the table.
        vectors: the architectures to time.
        model: the original; it is left as it is.
        deployment: runtime and batch.
        patience: how long they are timed.
        progress: listener, whose phase has begun; it advances by one for each network.

    Raises:
        ModelError: the runtime cannot hold a network.
    """
    progress, anchors = progress or Silent(), list(table.anchors)
    for start in range(0, len(vectors), _TOGETHER):
        some = [space.architecture(vector) for vector in vectors[start : start + _TOGETHER]]
        networks = [model, *(rewrite(model, each) for each in some)]
        original, *times = timed_networks(networks, deployment.batch, deployment.runtime, patience)
        for each, taken in zip(some, times, strict=True):
            anchors.append(anchor_of(each, ratio(taken, original)))
            progress.advance()
    return with_anchors(table, anchors)


def anchor_of(architecture: Architecture, share: float) -> Anchor:
    """Return an architecture as an anchor that takes such a share of the original's time."""
    names = zip((slot.name for slot in architecture.slots), architecture.operations, strict=True)
    swaps = {slot: name for slot, name in names if name != ORIGINAL}
    return Anchor(operations=swaps, share=share)


def with_anchors(table: LatencyTable, anchors: Sequence[Anchor]) -> LatencyTable:
    """Return a table with the scales that fit these whole networks, all that are known."""
    table = replace(table, anchors=tuple(anchors))
    return replace(table, scales=scales_of(table))
