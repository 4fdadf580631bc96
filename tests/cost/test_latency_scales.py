from dataclasses import replace

import pytest
from models import TinyResNet, images, latencies

from refiner.cost.latency_scales import scales_of
from refiner.cost.latency_table import Anchor, LatencyTable
from refiner.space.search_space import search_space


def table_of(*anchors: tuple[tuple[int, ...], float]) -> LatencyTable:
    """Return a table in which a swap of block1 saves 1 of 10 ms, one of block2 2 ms."""
    space = search_space(TinyResNet(), images(), candidates=["depthwise3x3"])
    saves = {"block1.conv1": 1.0, "block1.conv2": 1.0, "block2.conv1": 2.0, "block2.conv2": 2.0}
    table = latencies(space, 10.0, lambda _, k: 3.0 - 3.0 * k)
    rows = {
        slot: {n: replace(t, median=t.median * saves[slot] / 3) for n, t in row.items()}
        for slot, row in table.slots.items()
    }
    found = tuple(
        Anchor(
            operations={s: "depthwise3x3" for s, k in zip(saves, vector, strict=True) if k},
            share=share,
        )
        for vector, share in anchors
    )
    kinds = {slot: f"{slot[:6]}.conv1" for slot in saves}
    return replace(table, slots=rows, anchors=found, kinds=kinds)


def test_networks_that_take_what_the_sum_says_leave_every_scale_at_one() -> None:
    scales = scales_of(table_of(((1, 0, 0, 0), 0.9), ((1, 1, 1, 1), 0.4)))
    assert list(scales) == ["block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2"]
    assert scales == pytest.approx(dict.fromkeys(scales, 1.0))


def test_kinds_get_the_scales_of_the_networks_that_swap_them() -> None:
    """Swaps of block1 save half of what they save alone, those of block2 all of it."""
    anchors = [((1, 1, 0, 0), 0.9), ((0, 0, 1, 1), 0.6), ((1, 1, 1, 1), 0.5), ((1, 0, 1, 0), 0.75)]
    scales = scales_of(table_of(*anchors * 4))
    assert scales["block1.conv1"] == scales["block1.conv2"] == pytest.approx(0.5, abs=0.05)
    assert scales["block2.conv1"] == pytest.approx(1.0, abs=0.05)


def test_a_kind_that_no_network_swaps_gets_the_common_scale() -> None:
    scales = scales_of(table_of(((1, 1, 0, 0), 0.9)))
    assert 0.5 < scales["block1.conv1"] < scales["block2.conv1"] < 0.7


def test_a_scale_is_never_below_zero() -> None:
    scales = scales_of(table_of(*[((1, 1, 0, 0), 1.5)] * 9))
    assert scales["block1.conv1"] == 0.0
