import math
from types import SimpleNamespace

import pytest
import torch

from refiner.training.dense_maps import classes_apart
from refiner.training.yolo_boxes import BoxMaps


def test_the_divergence_is_that_of_each_share() -> None:
    expected = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    logit = torch.tensor(math.log(0.2 / 0.8))
    found = classes_apart(logit, torch.tensor(0.0))
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize("bins", [1, 4])
def test_boxes_count_where_the_teacher_sees_an_object(bins) -> None:
    maps = BoxMaps(SimpleNamespace(nc=2, reg_max=bins))
    generator = torch.Generator().manual_seed(0)
    raw = {
        "scores": torch.full((1, 2, 3), -20.0),
        "boxes": torch.rand(1, 4 * bins, 3, generator=generator),
    }
    raw["scores"][0, 1, 2] = 20.0
    target = maps.compared(raw)
    assert target.shape == (1, 2 + 4 * bins, 3)
    assert maps.divergence(target, target) == 0
    apart = []
    for anchor in (0, 2):
        other = target.clone()
        other[0, 2, anchor] += 1.0
        apart.append(float(maps.divergence(other, target)))
    assert apart[0] < 1e-6 < 0.01 < apart[1]
