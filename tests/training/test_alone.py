import torch
from torch import nn

from refiner.training.alone import Alone, waits_for_others
from refiner.training.devices import Devices


class Several(Devices):
    """As of two processes that would wait for each other."""

    __slots__ = ()
    processes = 2
    is_main = False


def test_one_process_computes_for_itself() -> None:
    alone = Alone.of(Several(Devices.choose("cpu").accelerator))
    assert alone.processes == 1
    assert alone.is_main
    assert alone.from_main(lambda: 3) == 3
    tensor, module = torch.ones(2), nn.BatchNorm1d(2)
    assert alone.summed(tensor) is tensor
    assert torch.equal(alone.mean(tensor), tensor)
    module.weight.grad = torch.ones(2)
    alone.average_gradients(module)
    alone.average_buffers(module)
    assert torch.equal(module.weight.grad, torch.ones(2))
    assert alone.place(module) is module


def test_norms_that_wait_for_others_are_seen() -> None:
    one = Devices.choose("cpu")
    norm = nn.Sequential(nn.SyncBatchNorm(2))
    assert waits_for_others(norm, Several(one.accelerator))
    assert not waits_for_others(norm, one)
    assert not waits_for_others(nn.Sequential(nn.BatchNorm2d(2)), Several(one.accelerator))
