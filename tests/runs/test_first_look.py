"""The first look: each cause on a network that is trained in a moment, and what must not stop."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import refiner
from refiner.core.errors import DataError, ModelError
from refiner.core.progress import Silent
from refiner.runs.first_look import first_look, look_first
from refiner.runs.job import Output, set_up
from refiner.training.devices import Devices

CLASSES = 4
UNIT = 0.25 * torch.rand(240, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(240) % CLASSES
for _i, _label in enumerate(LABELS):  # each class has a colour, or none
    if _label < 3:
        UNIT[_i, _label] += 0.7
MEAN, STD = (UNIT.mean((0, 2, 3))[:, None, None], UNIT.std((0, 2, 3))[:, None, None])


class Net(nn.Module):
    """Trained: takes images as ``inside`` wants them, and finds the colour of an image."""

    def __init__(self, mean=0.0, std=1.0, *, norm: bool = True) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("std", torch.as_tensor(std))
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.fc = nn.Linear(4, CLASSES)
        colours = torch.eye(4)[:, :3]
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[:, :, 1, 1] = colours
            self.conv.bias.zero_()
            self.fc.weight.copy_(torch.eye(4))
            self.fc.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.6]))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - self.mean) / self.std
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


class Listener(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def loader(x: torch.Tensor = UNIT, y: torch.Tensor = LABELS, size: int = 50) -> DataLoader:
    return DataLoader(TensorDataset(x, y), size)


def job_of(model: nn.Module, data: DataLoader, task="classification", provenance=None, **output):
    return set_up(
        model, data, data, task=task, example_input=None, seed=0,
        devices=Devices.choose("cpu"),
        output=Output(progress=Listener(), provenance=provenance or {}, **output),
    )  # fmt: skip


def cause(model: nn.Module, data: DataLoader, task="classification", provenance=None) -> str | None:
    return look_first(job_of(model, data, task, provenance), model, trained=True).cause


def test_the_line_says_score_images_classes_size_and_scale() -> None:
    job = job_of(Net(), loader())
    assert first_look(job, trained=True) == ()
    (line,) = job.progress.notes
    assert line.startswith("The network as given: accuracy 1.0000 on 240 validation images; 4 ")
    low, high = float(UNIT.min()), float(UNIT.max())
    assert f"inputs 3x6x6 from {low:.4g} to {high:.4g} (mean {float(UNIT.mean()):.3g}" in line


@pytest.mark.parametrize(
    ("given", "std", "words"),
    [
        (255 * UNIT, 1.0, "scaled from 0 to 1 give accuracy 1"),
        (UNIT, 255.0, "scaled from 0 to 255 give accuracy 1"),
        (UNIT.flip(1), 1.0, "in the order blue, green, red give accuracy 1"),
    ],
)
def test_a_wrong_scale_is_told_with_the_right_one(given, std, words) -> None:
    assert words in str(cause(Net(0.0, std, norm=False), loader(given)))
    assert cause(Net(0.0, 1.0, norm=False), loader()) is None


def test_the_run_of_a_network_that_normalises_inside_stops_before_any_work() -> None:
    model = Net(255 * MEAN, 255 * STD)  # takes 0 to 255, and was given a normalised image
    normalised = loader((UNIT - MEAN) / STD)
    with pytest.raises(DataError, match=r"accuracy 0\.\d+ on 240 .* But .*--force, force=True"):
        refiner.refine(
            model, normalised, normalised, distill=refiner.DistillConfig(steps=1), budget="macs=90%",
            device="cpu", progress=False,
        )  # fmt: skip
    known = {"preprocessing": {"mean": MEAN.flatten().tolist(), "std": STD.flatten().tolist()}}
    assert "scaled from 0 to 255 give accuracy" in str(cause(model, normalised, provenance=known))


def test_norms_of_other_images_are_told() -> None:
    model = Net()
    model.norm.running_mean.fill_(50.0)
    model.norm.running_var.copy_(torch.tensor([1e4, 1.0, 1.0, 1.0]))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert "BN recalibration on these images gives accuracy" in str(cause(model, loader()))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_another_order_of_the_classes_is_told() -> None:
    text = str(cause(Net(), loader(y=(LABELS + 1) % CLASSES)))
    assert "the classes seem to be in another order" in text
    assert "the accuracy is 1" in text
    one = nn.Sequential(Net(), Shift())  # 5 outputs, the first is of no class here
    assert "with +1 added to each label" in str(cause(one, loader()))


class Shift(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.full_like(x[:, :1], -9.0), x], 1)


def untrained() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, CLASSES))


def test_a_score_near_chance_is_told_and_a_new_head_is_named() -> None:
    model, noise = untrained(), loader(torch.randn(240, 3, 6, 6))
    assert "near chance: its weights are untrained" in str(cause(model, noise))
    published = {"spec": {"pretrained": True}}
    assert "without a head for these classes" in str(cause(model, noise, provenance=published))
    few = loader(torch.randn(60, 3, 6, 6), LABELS[:60])
    assert cause(model, few) is None, "60 images do not tell"
    job = job_of(model, noise)
    assert first_look(job, trained=False) == ()
    with pytest.raises(DataError, match="near chance"):
        first_look(job, trained=True)
    for goes_on in ({"force": True}, {"resume": True}):
        (note,) = first_look(job_of(model, noise, **goes_on), trained=True)
        assert note.startswith("The first look would have stopped this run: that is near chance")


def test_constant_outputs_are_told() -> None:
    model = untrained()
    with torch.no_grad():
        model[2].weight.zero_()
    assert "the same output for every image" in str(cause(model, loader()))


def test_values_that_are_not_finite_stop_any_run() -> None:
    x = UNIT.clone()
    x[100, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="the inputs hold NaN"):
        first_look(job_of(untrained(), loader(x), force=True), trained=False)
    model = untrained()
    with torch.no_grad():
        model[0].bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="outputs that are NaN"):
        first_look(job_of(model, loader(), force=True), trained=False)


def test_a_regression_no_better_than_the_mean_is_near_chance() -> None:
    targets = torch.randn(240, CLASSES)
    assert "near chance" in str(cause(untrained(), loader(y=targets), "regression"))
    model = Net(norm=False)
    with torch.no_grad():
        assert cause(model, loader(y=model(UNIT)), "regression") is None


class Pixels(nn.Module):
    def __init__(self, right: bool) -> None:
        super().__init__()
        self.conv, self.right = nn.Conv2d(3, 2, 1), right

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x.mean(1, keepdim=True) if self.right else x[:, :1].flip(2)
        return torch.cat([0.3 - bright, bright - 0.3], 1) + 0 * self.conv(x)


def test_a_segmentation_near_chance_is_told() -> None:
    x = torch.rand(120, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    data = loader(x, (x.mean(1) > 0.3).long())
    assert cause(Pixels(right=True), data, "segmentation") is None
    assert "near chance" in str(cause(Pixels(right=False), data, "segmentation"))


class Several(Devices):
    """The main process of two, whose other one never answers."""

    __slots__ = ()
    processes = 2

    def from_main(self, make):
        return make()

    def summed(self, tensor):
        raise AssertionError("it waits for the other process")


@pytest.mark.parametrize("synchronised", [False, True])
def test_the_main_process_looks_alone(synchronised: bool, monkeypatch) -> None:
    model, passes = Net(), []
    monkeypatch.setattr("refiner.runs.likely_cause.recalibrate", lambda *given: passes.append(1))
    if synchronised:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    job = job_of(model, loader(255 * UNIT - 300), force=True)
    job = replace(job, devices=Several(job.devices.accelerator))
    (note,) = first_look(job, trained=True)
    assert "would have stopped this run" in note
    assert bool(passes) is not synchronised, "in train mode such a norm would wait for the others"


def test_nothing_of_the_caller_changes() -> None:
    model, data = Net().train(), loader()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    first_look(job_of(model, data), trained=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.norm.training
    assert not model._forward_hooks
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
