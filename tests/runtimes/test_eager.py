import torch
from models import images
from torch import nn

from refiner.runtimes.eager import Eager
from refiner.runtimes.timing import Patience, timed

SEEN: list[tuple[bool, bool, int, torch.dtype]] = []


class Watched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x += 1  # it writes into its input
        y = self.conv(x)
        SEEN.append((self.training, torch.is_grad_enabled(), torch.get_num_threads(), y.dtype))
        return y


def test_passes_are_in_eval_mode_without_gradients_in_the_precision_and_threads_of_the_runtime() -> (
    None
):
    before, x = torch.get_num_threads(), images()
    for precision, dtype in (("no", torch.float32), ("bf16", torch.bfloat16)):
        SEEN.clear()
        runtime = Eager(torch.device("cpu"), precision, 3)
        one = runtime.prepare(Watched().train(), x)
        timed([one], runtime, Patience(repeats=1, most=1, warm_up=1))
        assert [(False, False, 3, dtype)] * 4 == SEEN
    assert torch.get_num_threads() == before
    assert torch.equal(x, images())
