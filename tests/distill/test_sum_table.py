from dataclasses import replace

import torch
from torch import nn

from refiner.distill import sum_table
from refiner.distill.sum_table import SumTable
from refiner.graph.conv_spec import conv_spec

SPEC = conv_spec(nn.Conv2d(4, 6, 3, padding=1))


def test_fits_that_read_the_same_patches_share_their_sums() -> None:
    table = SumTable(rows_per_feature=30, batches=8, seed=0)
    first = table.sums("conv", SPEC, 36)
    same = table.sums("conv", replace(SPEC, bias=False), 10)
    assert same is first
    assert first.wanted == 30 * 36  # the most that one of them asks for
    others = [
        table.sums("other", SPEC, 36),
        table.sums("conv", replace(SPEC, padding=((0, 0), (0, 0))), 36),
        table.sums("conv", SPEC, 36, before=nn.Identity()),
        table.sums("conv", SPEC, 36, passed=True),
    ]
    assert len({id(sums) for sums in (first, *others)}) == len(table) == 5
    assert [sums.passed for sums in (first, *others)] == [False] * 4 + [True]


def test_each_sum_draws_positions_of_its_own_by_the_seed() -> None:
    drawn = []
    for seed in (0, 0, 1):
        table = SumTable(rows_per_feature=1, batches=1, seed=seed)
        for name in "ab":
            sums = table.sums(name, SPEC, 36)
            drawn.append(torch.randint(10**6, (4,), generator=sums._generator).tolist())
    assert drawn[:2] == drawn[2:4]
    assert len({tuple(each) for each in drawn}) == 4


def test_parts_keep_the_order_and_stay_within_the_bound(monkeypatch) -> None:
    table = SumTable(rows_per_feature=30, batches=8, seed=0)
    wide = conv_spec(nn.Conv2d(16, 6, 3))
    made = [table.sums(str(i), spec, 1) for i, spec in enumerate([SPEC, SPEC, wide, SPEC])]
    assert made[0].bytes == 16 * 36 * (36 + 6)
    monkeypatch.setattr(sum_table, "MOST_BYTES", 2 * made[0].bytes)
    assert list(table.parts()) == [made[:2], made[2:3], made[3:]]
