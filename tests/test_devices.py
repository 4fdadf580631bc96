import pytest
import torch
from models import TinyResNet
from torch.utils.data import DataLoader, TensorDataset

from refiner.devices import Devices
from refiner.errors import ConfigError


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
    assert torch.equal(devices.summed(torch.ones(2)), torch.ones(2))
    assert torch.get_num_threads() == threads


def test_batches_of_mappings_are_moved_too() -> None:
    batch = next(iter(Devices.choose("cpu").batches([{"x": torch.ones(2), "name": "a"}])))
    assert batch["name"] == "a"
