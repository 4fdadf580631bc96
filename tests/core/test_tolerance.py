import pytest
import torch

from refiner.core.tolerance import close, rerun_tolerance


class OnGpu:
    """What is read of a tensor on a GPU."""

    device = torch.device("cuda", 0)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


def test_a_cpu_repeats_to_the_bit() -> None:
    assert rerun_tolerance(torch.ones(1)) == 0
    assert rerun_tolerance(OnGpu(torch.int64)) == 0


def test_a_gpu_is_compared_up_to_its_rounding() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        for settings, expected in (
            ((False, False), 1e-4),
            ((True, False), 1e-2),
            ((False, True), 1e-2),
        ):
            matmul.allow_tf32, cudnn.allow_tf32 = settings
            assert rerun_tolerance(OnGpu(torch.float32)) == expected
            assert rerun_tolerance(OnGpu(torch.complex64)) == expected
            assert rerun_tolerance(OnGpu(torch.float64)) == 1e-8
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
    assert rerun_tolerance(OnGpu(torch.bfloat16)) > rerun_tolerance(OnGpu(torch.float16)) > 1e-3


def test_the_difference_is_a_share_of_the_largest_number() -> None:
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([1000.0, 0.0, nan, inf])
    y = torch.tensor([1000.0, 0.05, nan, inf])
    assert close(x, y, 1e-4)
    assert not close(x, y, 1e-5)
    assert not close(x, y, 0.0)
    assert close(x, x.clone(), 0.0)
    assert not close(x, torch.tensor([1000.0, 0.0, 0.0, inf]), 1e-4)
    assert not close(x, torch.tensor([1000.0, 0.0, nan, -inf]), 1e-4)
    assert close(torch.empty(0), torch.empty(0), 1e-4)
    assert not close(torch.tensor([1]), torch.tensor([2]), 0.0)
    assert close(torch.tensor([1 + 1j]), torch.tensor([1 + 1.00001j]), 1e-4)
    assert close(torch.tensor([True]), torch.tensor([True]), 0.0)


def test_settings_that_cannot_be_read_count_as_tf32(monkeypatch) -> None:
    class Mixed:
        @property
        def allow_tf32(self) -> bool:
            raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch.backends, "cudnn", Mixed())
    assert rerun_tolerance(OnGpu(torch.float32)) == pytest.approx(1e-2)
