import pytest
import torch
from models import TinyResNet, images
from torch import nn

from refiner.core.errors import ModelError
from refiner.graph.trace_check import check_repeats, reference_runs, repeatable, same


def test_buffers_mode_and_generators_are_put_back() -> None:
    model = TinyResNet().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1, generator=torch.Generator().manual_seed(5))
    with repeatable(model, training=True):
        model(images())
        torch.rand(3)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.rand(1), expected)
    assert model.training


def test_a_buffer_that_a_forward_replaces_comes_back() -> None:
    class Caches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("grid", torch.zeros(1), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(self.grid) != x.shape[-1]:
                self.grid = torch.arange(float(x.shape[-1]))
            return x + self.grid

    model = Caches()
    runs = reference_runs(model, images())
    assert same(runs[0].output, runs[1].output)
    assert torch.equal(model.grid, torch.zeros(1))


def test_a_batch_of_one_is_doubled_where_a_norm_needs_it() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten())
    evaluated, train = reference_runs(model, images(1))
    assert len(train.output) == 2
    assert len(evaluated.output) == 1
    with pytest.raises(ModelError, match="1x5x8x8"):
        reference_runs(model, torch.zeros(1, 5, 8, 8))


def test_a_model_that_only_trains_with_targets_is_run_in_eval_mode_alone() -> None:
    class Wants(nn.Module):
        def forward(self, x: torch.Tensor, targets: object = None) -> torch.Tensor:
            assert targets is not None or not self.training
            return x

    assert [run.training for run in reference_runs(Wants(), images())] == [False]


def test_the_module_that_does_not_repeat_is_named() -> None:
    class Counts(nn.Module):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return x * self.calls

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Counts(), nn.ReLU())
    run = reference_runs(model, images())[0]
    with pytest.raises(ModelError, match=r"module 1 \(Counts\) gives other outputs"):
        check_repeats(model, run)
    check_repeats(TinyResNet(), reference_runs(TinyResNet(), images())[0])


def test_equality_is_of_structure_shape_type_and_bits() -> None:
    nan = torch.tensor([float("nan"), 1.0])
    assert same({"a": nan}, {"a": nan.clone()})
    assert not same({"a": nan}, (nan,))
    assert not same(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    assert not same(torch.zeros(2), torch.full((2,), 1e-12))


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        (torch.uint8, "The input is uint8 and the model's weights are float32: give float32 .*sca"),
        (torch.float64, "give float32 images\\."),
        (torch.float32, "Give an input that fits"),
    ],
)
def test_an_input_of_another_type_is_told(dtype: torch.dtype, says: str) -> None:
    x = torch.ones(2, 3 if dtype is not torch.float32 else 5, 8, 8).to(dtype)
    with pytest.raises(ModelError, match=says):
        reference_runs(TinyResNet(), x)
