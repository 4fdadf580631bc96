import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models import TinyResNet
from torch.utils.data import DataLoader, TensorDataset

from refiner.core.errors import ConfigError
from refiner.training.devices import Devices


def test_unknown_or_missing_devices_are_refused() -> None:
    with pytest.raises(ConfigError, match="auto, cpu, cuda"):
        Devices.choose("tpu")
    with pytest.raises(ConfigError, match="no, bf16"):
        Devices.choose("cpu", "int4")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA"):
            Devices.choose("cuda")


def test_one_process_on_the_cpu() -> None:
    devices = Devices.choose("cpu")
    threads = torch.get_num_threads()
    assert devices.device.type == "cpu"
    assert devices.is_main
    model = TinyResNet()
    assert devices.place(model) is model
    loader = DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)
    assert devices.loader(loader) is loader
    assert [b[0].shape for b in devices.batches(loader)] == [(2, 1), (2, 1)]
    assert devices.precision == "no"
    assert devices.from_main(lambda: {"a": 1}) == {"a": 1}
    assert torch.equal(devices.summed(torch.ones(2)), torch.ones(2))
    assert torch.get_num_threads() == threads


def test_batches_of_mappings_are_moved_too() -> None:
    batch = next(iter(Devices.choose("cpu").batches([{"x": torch.ones(2), "name": "a"}])))
    assert batch["name"] == "a"


def test_two_processes_agree_and_score_each_image_once(tmp_path) -> None:
    """Shards are uneven here: 13 validation images, 37 and 13 training images."""
    script = Path(__file__).with_name("two_processes.py")
    helpers = os.environ | {"PYTHONPATH": str(script.parents[1])}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        out.mkdir()
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        subprocess.run([sys.executable, *launch, script, out], check=True, timeout=120, env=helpers)
    alone = json.loads((tmp_path / "1" / "0.json").read_text())
    first, second = (json.loads((tmp_path / "2" / f"{i}.json").read_text()) for i in (0, 1))
    assert first == second
    assert (alone["processes"], first["processes"]) == (1, 2)
    assert first["from main"] == 0
    assert alone["mean"] == [0.0, 3.0]
    assert first["mean"] == [0.5, 3.0]
    assert first["averaged"] == [[0.5, 3.0], [0.5, 3.0]]
    assert first["loader is copied"]
    assert first["orders repeat"]
    assert first["test"]
    assert first["sampler is as it was"]
    assert alone["tensor"] == alone["listed"] == first["tensor"] == first["listed"]
    for found in (alone, first):  # batches are cut in other ways
        assert found["agreement tensor"] < 0
        assert found["agreement tensor"] == pytest.approx(found["agreement listed"], rel=1e-4)


class Two(Devices):
    """The first of two processes, of which both give the same tensors."""

    processes = 2

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        return 2 * tensor


def test_means_of_two_processes_by_hand() -> None:
    devices = Two(Devices.choose("cpu").accelerator)
    assert devices.mean(torch.tensor([3.0])).tolist() == [3.0]
    linear = torch.nn.Linear(2, 1)
    linear.weight.grad = torch.full((1, 2), 5.0)
    devices.average_gradients(linear)
    assert linear.weight.grad.tolist() == [[5.0, 5.0]]
    assert linear.bias.grad is None
    norm = torch.nn.BatchNorm1d(2)
    norm.running_mean.fill_(7)
    norm.num_batches_tracked.fill_(3)
    devices.average_buffers(norm)
    assert norm.running_mean.tolist() == [7.0, 7.0]
    assert norm.num_batches_tracked == 3
