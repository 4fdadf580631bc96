from types import SimpleNamespace

import pytest
import torch

from refiner.training.yolo_masks import MaskMaps, mask_overlap

pytest.importorskip("ultralytics")
MAPS = MaskMaps(SimpleNamespace(nc=2, reg_max=1, nm=1))


def raw_output() -> dict[str, torch.Tensor]:
    """Return that of a head with 2 x 2 and 1 x 1 anchors, and one prototype of 4 x 4 pixels."""
    generator = torch.Generator().manual_seed(0)
    raw = {
        "scores": torch.full((1, 2, 5), -20.0),
        "boxes": torch.rand(1, 4, 5, generator=generator),
        "mask_coefficient": torch.ones(1, 1, 5),
        "proto": torch.randn(1, 1, 4, 4, generator=generator),
    }
    raw["scores"][0, 1, 2] = 20.0
    return raw


def test_prototypes_are_folded_beside_the_anchors() -> None:
    raw = raw_output()
    maps = MAPS.compared(raw)
    assert maps.shape == (1, 2 + 4 + 1 + 4, 5)
    assert sorted(maps[0, 7:, :4].flatten().tolist()) == sorted(raw["proto"].flatten().tolist())
    assert not maps[0, 7:, 4].any(), "coarser levels have none"
    in_training = {**raw, "proto": (raw["proto"], torch.rand(1, 2, 2, 2))}
    assert torch.equal(MAPS.compared(in_training), maps)


def test_masks_count_where_the_teacher_sees_an_object() -> None:
    target = MAPS.compared(raw_output())
    assert MAPS.divergence(target, target) == 0
    apart = []
    for anchor in (0, 2):
        raw = raw_output()
        raw["mask_coefficient"][0, 0, anchor] = -1.0
        apart.append(float(MAPS.divergence(MAPS.compared(raw), target)))
    assert apart[0] < 1e-6 < 0.01 < apart[1]
    raw = raw_output()
    raw["proto"], raw["mask_coefficient"] = -raw["proto"], -raw["mask_coefficient"]
    assert MAPS.divergence(MAPS.compared(raw), target) < 1e-6, "the same masks"


def test_masks_overlap_within_the_boxes_that_were_found() -> None:
    numbers = torch.zeros(4, 4)
    numbers[:2, :2], numbers[2:, 2:] = 1, 2
    found = torch.tensor(
        [
            [0.0, 0.0, 8.0, 8.0, 0.9, 0.0, 1.0],  # the upper left quarter of 16 x 16 pixels
            [8.0, 0.0, 16.0, 16.0, 0.8, 0.0, 1.0],  # the right half
            [0.0, 0.0, 16.0, 16.0, 0.7, 0.0, -1.0],  # a mask of nothing
        ]
    )
    overlap = mask_overlap(torch.ones(1, 4, 4), found, numbers, 2, (16, 16))
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]])
    torch.testing.assert_close(overlap, expected)
    finer = numbers.repeat_interleave(2, 0).repeat_interleave(2, 1)
    again = mask_overlap(torch.ones(1, 4, 4), found, finer, 2, (16, 16))
    torch.testing.assert_close(again, expected)
    assert mask_overlap(torch.ones(1, 4, 4), found, numbers * 0, 0, (16, 16)).shape == (0, 3)
