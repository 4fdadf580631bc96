"""Causes on their own; tests/runs/test_first_look.py finds them in runs."""

import torch
from torch import nn

from refiner.runs import likely_cause as module
from refiner.runs.likely_cause import LEAST_IMAGES, Trial, likely_cause
from refiner.runs.look import look_at
from refiner.training.devices import Devices
from refiner.training.task import Classification

CPU = Devices.choose("cpu")


class Colour(nn.Module):
    """Names the brightest channel; ``inside`` is subtracted by a norm's statistics."""

    def __init__(self, inside: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)
        self.norm.running_mean[0] = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x).mean((2, 3))


def trial(model: nn.Module, count: int = 150, labels: torch.Tensor | None = None) -> Trial:
    y = torch.arange(count) % 3
    x = 0.2 * torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x[torch.arange(count), y] += 0.5
    batches = [(x, y if labels is None else labels)]
    look = look_at(model, batches, Classification(), CPU)
    return Trial(
        network=model, task=Classification(), devices=CPU, batches=batches, norm_batches=batches,
        look=look, preprocessing={}, new_head=False,
    )  # fmt: skip


def test_a_good_score_has_no_cause_and_few_images_name_none() -> None:
    assert likely_cause(trial(Colour())) is None
    assert likely_cause(trial(Colour(-9000.0), LEAST_IMAGES - 1)) is None


def test_norms_are_named_where_recalibration_helps_more_than_any_scale() -> None:
    model = Colour(-9000.0)
    assert "BN recalibration" in str(likely_cause(trial(model)))
    assert model.norm.running_mean[0] == -9000


def test_random_labels_are_no_other_order() -> None:
    labels = torch.randint(3, (150,), generator=torch.Generator().manual_seed(1))
    assert "near chance" in str(likely_cause(trial(Colour(), labels=labels)))


def test_swapped_classes_are_another_order() -> None:
    y = torch.arange(150) % 3
    swapped = torch.tensor([1, 0, 2])[y]
    assert "(0 as 1, 1 as 0, ...)" in str(likely_cause(trial(Colour(), labels=swapped)))


def test_the_order_of_many_classes_is_sought_among_those_that_occur(monkeypatch) -> None:
    class Many(Colour):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([super().forward(x), torch.full((len(x), 30_000), -1e9)], 1)

    real, sides = module.linear_sum_assignment, []

    def assigned(table, **how):
        sides.append(table.shape)
        return real(table, **how)

    monkeypatch.setattr(module, "linear_sum_assignment", assigned)
    shifted = torch.arange(150) % 3 + 9
    assert "with -9 added to each label" in str(likely_cause(trial(Many(), labels=shifted)))
    assert sides == [(6, 6)]


class Biased(Colour):
    """Names class 0 for every image, with outputs that vary."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.tensor([9.0, 0.0, 0.0])


def test_a_network_that_names_the_most_frequent_class_alone_is_no_better_than_a_guess() -> None:
    labels = torch.zeros(150, dtype=torch.int64)
    labels[:30] = torch.arange(30) % 2 + 1  # 80 % are of class 0, far above 1 in 3
    assert "names class 0 for every image, and 30 of 150" in str(
        likely_cause(trial(Biased(), labels=labels))
    )
    labels[10:] = 0
    assert likely_cause(trial(Biased(), labels=labels)) is None


def test_an_order_that_explains_all_is_named_before_a_scale_that_explains_some() -> None:
    shifted = (torch.arange(150) + 1) % 3  # blue, green, red alone makes one class of three right
    assert "another order" in str(likely_cause(trial(Colour(), labels=shifted)))
