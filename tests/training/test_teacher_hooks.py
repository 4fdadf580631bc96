import pytest
import torch
from torch import nn

from refiner.training.teacher_hooks import compare_calls


def test_each_call_is_compared_with_the_teacher_on_the_same_arguments() -> None:
    class Added(nn.Module):
        def forward(self, x: torch.Tensor, *, bias: float = 0.0) -> torch.Tensor:
            return x + bias

    model, calls = Added(), []

    def run_teacher(args, kwargs):
        assert not torch.is_grad_enabled()
        return 2 * args[0] if args else 2 * kwargs["x"]

    with compare_calls(model, run_teacher, lambda *call: calls.append(call)):
        model(torch.ones(3))
        model(x=torch.ones(2), bias=1.0)
    model(torch.ones(5))
    assert [(ours.tolist(), theirs.tolist(), n) for ours, theirs, n in calls] == [
        ([1, 1, 1], [2, 2, 2], 3),
        ([2, 2], [2, 2], 2),
    ]


def test_no_hook_is_left_after_an_error() -> None:
    model = nn.Identity()

    def fail(*_: object) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), compare_calls(model, fail, fail):
        model(torch.ones(1))
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
