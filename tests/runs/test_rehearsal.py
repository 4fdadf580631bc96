"""What can be known before the search is told before it."""

import pytest
import torch
from models import PlainNet, TinyResNet, batches
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import refiner
from refiner.core.errors import ConfigError, DataError, ModelError, RefinerError, RunError
from refiner.cost.deployment import Deployment

BEFORE = refiner.SearchConfig(epochs=1, warmup_epochs=0, train_weights=False)
TRAIN = refiner.TrainConfig(epochs=1, lr_max=0.01)


class Flat(nn.Module):
    """Has a norm over single numbers, which cannot train on one image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.more = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.fc = nn.BatchNorm1d(8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.more(self.stem(x).relu()).mean((2, 3))))


def loader(count: int, size: int = 16, **options) -> DataLoader:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(count, 3, 8, 8, generator=g), torch.randint(4, (count,), generator=g)
    return DataLoader(TensorDataset(x, y), size, **options)


@pytest.fixture
def before_the_search(monkeypatch):
    """Fail where a run comes to its search."""

    def searched(*args, **kwargs):
        raise AssertionError("the search began")

    monkeypatch.setattr("refiner.api.make_search", searched)


def refine(model, train, val, /, **options):
    given = {
        "distill": refiner.DistillConfig(steps=1), "search": BEFORE, "train": TRAIN,
        "baselines": False, "device": "cpu", "progress": False,
    }  # fmt: skip
    return refiner.refine(model, train, val, **given | options)


def test_a_last_batch_of_one_image_is_told_with_the_next_step(before_the_search, tmp_path) -> None:
    with pytest.raises(DataError, match=r"one sample, on which norm .* drop_last=True"):
        refine(Flat(), loader(33), loader(32), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    words = (
        r"shortest training batch holds 1 sample \(33 samples in batches of 16\).*drop_last=True"
    )
    with pytest.raises(DataError, match=words):
        refine(Lonely(), loader(33), loader(32), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="shortest training batch"):
        refiner.train_architecture(Lonely(), loader(33), loader(32), config=TRAIN, progress=False)
    with pytest.raises(AssertionError, match="the search began"):
        refine(Flat(), loader(33, drop_last=True), loader(33))


class Lonely(Flat):
    """Fails on one image in training only, in a way that no norm's type tells."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y if not self.training else y.squeeze()


class Squeezing(Lonely):
    """Fails on one image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).squeeze(0)


def test_a_last_validation_or_test_batch_of_one_image_is_told(before_the_search) -> None:
    with pytest.raises(DataError, match="shortest validation batch holds 1 sample"):
        refine(Squeezing(), loader(32), Plain(loader(33)))
    with pytest.raises(DataError, match="shortest test batch holds 1 sample"):
        refine(Squeezing(), loader(32), loader(32), test_loader=loader(33))


class Plain(list):
    """Batches in a list of a type of its own."""


class LossOf(refiner.Classification):
    def __init__(self, value) -> None:
        super().__init__()
        self.value = value

    def loss(self, model, batch):
        return self.value(model(batch[0]))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda y: y, r"loss gives a tensor of shape \(8, 10\)"),
        (lambda y: y.mean().detach(), "Return a scalar tensor"),
        (lambda y: y.mean() / 0, "training loss is"),
        (lambda y: y.nothing, "no attribute 'nothing'"),
    ],
)
def test_a_loss_that_cannot_train_is_told(value, words, before_the_search) -> None:
    with pytest.raises(RefinerError, match=words):
        refine(TinyResNet(), batches(2), batches(1), task=LossOf(value))


def test_a_test_of_the_user_and_a_budget_out_of_reach_are_told(before_the_search) -> None:
    def broken(network):
        raise KeyError("pairs")

    with pytest.raises(ConfigError, match="the test 'mine' fails: KeyError"):
        refine(TinyResNet(), batches(2), batches(1), tests={"mine": broken})
    with pytest.raises(ConfigError, match="out of reach"):
        refine(TinyResNet(), batches(2), batches(1), budget="macs=1%")


def test_a_full_disk_is_told(before_the_search, monkeypatch, tmp_path) -> None:
    class Full:
        free = 1000

    monkeypatch.setattr("refiner.runs.rehearsal.shutil.disk_usage", lambda _path: Full)
    with pytest.raises(RunError, match="0 MB left, and the run needs"):
        refine(TinyResNet(), batches(2), batches(1), out=tmp_path / "run")


def test_an_export_that_fails_is_told_and_a_run_goes_on(before_the_search, tmp_path) -> None:
    notes = []

    class Listener(refiner.Silent if hasattr(refiner, "Silent") else object):
        def plan(self, stages): ...
        def begin(self, phase, total, done=0): ...
        def advance(self, steps=1, **values): ...
        def end(self): ...
        def note(self, text):
            notes.append(text)

    def fail(*args):
        raise refiner.core.errors.ModelError("it cannot be held")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refiner.runs.rehearsal.export", fail)
        with pytest.raises(AssertionError, match="the search began"):
            refine(TinyResNet(), batches(2), batches(1), out=tmp_path / "run", progress=Listener())
    assert "refined.ts will be missing: it cannot be held" in notes


def test_latency_is_timed_only_as_a_budget(before_the_search, monkeypatch) -> None:
    timed = []
    monkeypatch.setattr(
        Deployment, "latencies", lambda *given, copies: timed.append(given[2].repeats)
    )
    monkeypatch.setattr("refiner.api.cost_space", lambda *_: None)
    for budget in ("macs=90%", "latency=90%"):
        with pytest.raises(AssertionError, match="the search began"):
            refine(TinyResNet(), batches(2), batches(1), budget=budget)
    assert timed == [1]


def test_a_runtime_that_cannot_hold_the_model_is_named_before_the_search(before_the_search) -> None:
    class Sorted(TinyResNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + torch.special.bessel_j0(x).mean()

    with pytest.raises(ModelError, match="ONNX cannot hold this model.*choose another --runtime"):
        refine(Sorted(), batches(2), batches(1), budget="latency=90%", runtime="onnxruntime")


def test_the_model_and_the_random_numbers_stay(before_the_search) -> None:
    model, data = TinyResNet().train(), loader(40, shuffle=True, generator=torch.Generator())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state, own = torch.get_rng_state(), data.generator.get_state()
    with pytest.raises(AssertionError, match="the search began"):
        refine(model, data, data)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(data.generator.get_state(), own)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert all(module.training for module in model.modules())


def test_a_loss_that_the_network_has_no_part_in_is_told(before_the_search) -> None:
    class NoCall(refiner.Classification):
        def loss(self, model, batch):
            return torch.zeros((), requires_grad=True)

    with pytest.raises(ConfigError, match="gives the network no gradient"):
        refine(TinyResNet(), batches(2), batches(1), task=NoCall())


def test_a_task_that_leaves_nothing_to_compare_with_the_teacher_is_told(before_the_search) -> None:
    class Inside(refiner.Classification):
        def loss(self, model, batch):
            return sum(parameter.square().sum() for parameter in model.parameters())

    model, data = TinyResNet(), (batches(2), batches(1))
    guided = refiner.TrainConfig(epochs=1, lr_max=0.01, teacher_weight=0.5)
    with pytest.raises(ConfigError, match="no output to compare with the teacher's"):
        refine(model, *data, task=Inside(), train=guided)
    with pytest.raises(AssertionError, match="the search began"):
        refine(model, *data, task=Inside(), train=TRAIN)


def test_values_of_training_images_that_are_not_finite_are_told(before_the_search) -> None:
    x, y = batches(1)[0]
    with pytest.raises(DataError, match="NaN or infinite values in a training batch"):
        refine(TinyResNet(), [(x / 0, y)], batches(1))


class Recall(refiner.Classification):
    """The share of images of class 0 that are found; no number where a batch holds none."""

    def measure(self, model, batch):
        x, y = batch
        rare = y == 0
        return torch.stack([(model(x).argmax(1)[rare] == 0).sum(), rare.sum()])


def test_a_score_that_a_single_batch_does_not_have_stops_nothing(before_the_search) -> None:
    x, y = torch.randn(33, 3, 8, 8), torch.arange(33) % 4 + (torch.arange(33) == 32).long()
    data = DataLoader(TensorDataset(x, y), 16)
    with pytest.raises(AssertionError, match="the search began"):
        refine(TinyResNet(), loader(32), data, task=Recall())


def test_a_run_has_the_same_bits_without_first_look_and_rehearsal(monkeypatch) -> None:
    def weights():
        torch.manual_seed(5)
        g = torch.Generator().manual_seed(1)
        data = loader(40, shuffle=True, generator=g)
        result = refine(PlainNet(), data, data, search=SHORT, train=GUIDED)
        return result.model.state_dict()

    with_both = weights()
    monkeypatch.setattr("refiner.api.first_look", lambda *_, **__: ())
    monkeypatch.setattr("refiner.api.rehearse_run", lambda *_: ())
    without = weights()
    assert all(torch.equal(with_both[name], value) for name, value in without.items())


SHORT = refiner.SearchConfig(epochs=1, warmup_epochs=0, train_weights=False, trials=4)
GUIDED = refiner.TrainConfig(epochs=1, lr_max=0.01, teacher_weight=0.5)
