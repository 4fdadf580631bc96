import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from models import TinyResNet
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from training_loaders import tensor_loader

from refiner.core.errors import ConfigError
from refiner.core.progress import Lines, Silent
from refiner.data.loaders import mixed
from refiner.training import devices as devices_module
from refiner.training.devices import Devices, make_listener


def run_in_processes(name: str, processes: int, out: Path) -> None:
    """Run a script of this folder under torchrun; it writes into ``out``."""
    script = Path(__file__).with_name(name)
    helpers = os.environ | {"PYTHONPATH": str(script.parents[1])}
    out.mkdir()
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    subprocess.run([sys.executable, *launch, script, out], check=True, timeout=180, env=helpers)


def test_unknown_or_missing_devices_are_refused() -> None:
    with pytest.raises(ConfigError, match="auto, cpu, cuda"):
        Devices.choose("tpu")
    with pytest.raises(ConfigError, match="no, bf16"):
        Devices.choose("cpu", "int4")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA"):
            Devices.choose("cuda")


def test_apples_gpu_is_refused_and_never_chosen(monkeypatch) -> None:
    """Accelerate would take it, and the first score would fail for want of float64."""
    with pytest.raises(ConfigError, match="no float64.* Use the device cpu"):
        Devices.choose("mps")
    asked = {}

    def accelerator(**given):
        asked.update(given)
        return Accelerator(cpu=True)

    monkeypatch.setattr(devices_module, "Accelerator", accelerator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Devices.choose("auto")
    assert asked["cpu"]


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


def test_every_process_has_a_batch_to_score(monkeypatch) -> None:
    devices = Devices.choose("cpu")
    monkeypatch.setattr(Devices, "processes", property(lambda _: 3))
    loader = DataLoader(TensorDataset(torch.zeros(8)), 4)
    with pytest.raises(ConfigError, match="2 batches leaves some of 3 processes without one"):
        devices.loader(loader, even=False)
    assert len(devices.loader(DataLoader(loader.dataset, 2), even=False)) > 0


def test_two_processes_agree_and_score_each_image_once(tmp_path) -> None:
    """Shards are uneven here: 13 validation images, 37 and 13 training images."""
    for processes in (1, 2):
        run_in_processes("two_processes.py", processes, tmp_path / str(processes))
    alone = json.loads((tmp_path / "1" / "0.json").read_text())
    first, second = (json.loads((tmp_path / "2" / f"{i}.json").read_text()) for i in (0, 1))
    assert first == second
    assert (alone["processes"], first["processes"]) == (1, 2)
    assert first["from main"] == 0
    assert alone["mean"] == [0.0, 3.0]
    assert first["mean"] == [0.5, 3.0]
    assert first["averaged"] == [[0.5, 3.0], [0.5, 3.0]]
    assert first["informed"][2] > 0
    assert first["loader is copied"]
    assert first["orders repeat"]
    assert first["test"]
    assert first["sampler is as it was"]
    assert alone["tensor"] == alone["listed"] == first["tensor"] == first["listed"]
    for found in (alone, first):  # batches are cut in other ways
        assert found["agreement tensor"] < 0
        assert found["agreement tensor"] == pytest.approx(found["agreement listed"], rel=1e-4)


class TwoProcesses:
    """What Devices asks of an accelerator on a GPU, where each sum is twice the tensor."""

    num_processes, process_index, is_main_process = 2, 0, True

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.reduced: list[torch.Tensor] = []

    def reduce(self, tensor, reduction):
        assert reduction == "sum"
        assert tensor.device == self.device, "NCCL reduces tensors on its own device only"
        self.reduced.append(tensor)
        return tensor * 2


def test_what_lies_elsewhere_is_reduced_on_the_runs_device() -> None:
    accelerator = TwoProcesses("meta")
    total = Devices(TwoProcesses("cpu")).summed(torch.tensor([1.0, 2.0]))
    assert total.tolist() == [2, 4]
    with pytest.raises(NotImplementedError, match="meta"):  # on the way back, for want of numbers
        Devices(accelerator).summed(torch.ones(3))
    assert len(accelerator.reduced) == 1


def test_gradients_and_buffers_are_averaged_many_at_a_time() -> None:
    accelerator = TwoProcesses("cpu")
    model = TinyResNet()
    for i, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, float(i))
    model.fc.bias.grad = None
    before = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    Devices(accelerator).average_gradients(model)
    assert len(accelerator.reduced) == 1
    for parameter, expected in zip(model.parameters(), before):
        assert parameter.grad is None if expected is None else torch.equal(parameter.grad, expected)
    model.bn.running_mean.fill_(3)
    Devices(accelerator).average_buffers(model)
    assert len(accelerator.reduced) == 2
    assert model.bn.running_mean.tolist() == [3] * 4


def test_one_process_gives_a_sum_of_its_own() -> None:
    x = torch.ones(2)
    total = Devices.choose("cpu").summed(x)
    total += 1
    assert x.tolist() == [1, 1]


def test_no_norm_is_broadcast_before_a_step(monkeypatch) -> None:
    """Torch reads the names when the wrapper is made; the module keeps no trace of them."""
    seen = {}

    def wrapper(module, *, find_unused_parameters):
        seen["left out"] = list(module._ddp_params_and_buffers_to_ignore)
        assert find_unused_parameters
        return module

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(2)
            self.register_buffer("codebook", torch.ones(2))

    monkeypatch.setattr(devices_module, "DistributedDataParallel", wrapper)
    net = Net()
    Devices(TwoProcesses("cpu")).place(net)
    assert seen["left out"] == ["bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]
    assert not hasattr(net, "_ddp_params_and_buffers_to_ignore")


class Elsewhere(Devices):
    """On another device than the loaders."""

    device = torch.device("meta")


def test_validation_images_are_held_once() -> None:
    devices = Devices.choose("cpu")
    given = tensor_loader(8, train=False)
    held = devices.held(given)
    loaders = devices.loader(held, even=False), devices.loader(mixed(held), even=False)
    assert {loader.images.data_ptr() for loader in loaders} == {held.images.data_ptr()}
    listed = DataLoader(TensorDataset(torch.ones(4, 1)))
    assert devices.held(listed) is listed
    moved = Elsewhere(devices.accelerator).held(given)
    assert moved.images.device == Elsewhere.device  # once, before loaders are made of it


def test_a_gpu_gets_pinned_batches_and_the_callers_loader_stays() -> None:
    class Own(DataLoader):
        pass

    class OneGpu(TwoProcesses):
        num_processes = 1

    loader = Own(TensorDataset(torch.ones(4, 1)), batch_size=2)
    placed = Devices(OneGpu("cuda")).loader(loader)
    assert placed.pin_memory
    assert type(placed) is Own
    assert placed.batch_sampler is loader.batch_sampler
    assert not loader.pin_memory
    assert Devices(TwoProcesses("cuda")).loader(DataLoader(loader.dataset)).pin_memory
    assert Devices(TwoProcesses("cpu")).loader(DataLoader(loader.dataset)).pin_memory is False


def test_whole_runs_keep_to_the_runs_device(tmp_path) -> None:
    """On the device of far_device.py, which refuses what lies on the CPU, as a GPU and NCCL do."""
    run_in_processes("far_processes.py", 2, tmp_path / "far")
    first, second = (json.loads((tmp_path / "far" / f"{i}.json").read_text()) for i in (0, 1))
    assert first == second
    assert first["slots"] == 4


class Two(Devices):
    """The first of two processes; the numbers of the other are greater by 2."""

    processes = 2

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        return 2 * tensor + 2


def test_means_of_two_processes_by_hand() -> None:
    devices = Two(Devices.choose("cpu").accelerator)
    assert devices.mean(torch.tensor([3.0])).tolist() == [4.0]
    linear = torch.nn.Linear(2, 1)
    linear.weight.grad = torch.full((1, 2), 5.0)
    devices.average_gradients(linear)
    assert linear.weight.grad.tolist() == [[6.0, 6.0]]
    assert linear.bias.grad is None
    norm = torch.nn.BatchNorm1d(2)
    norm.running_mean.fill_(7)
    norm.num_batches_tracked.fill_(3)
    devices.average_buffers(norm)
    assert norm.running_mean.tolist() == [8.0, 8.0]
    assert norm.num_batches_tracked == 3


@pytest.mark.parametrize("even", [True, False])
def test_each_process_has_a_share_of_the_batches(even: bool) -> None:
    def devices(index: int) -> Devices:
        fake = SimpleNamespace(process_index=index, num_processes=2, device=torch.device("cpu"))
        return Devices(fake)  # type: ignore[arg-type]

    whole = DataLoader(TensorDataset(torch.arange(10)), batch_size=2)  # five batches
    parts = [[x.tolist() for (x,) in devices(i).loader(whole, even=even)] for i in (0, 1)]
    assert parts[0] == [[0, 1], [4, 5], [8, 9]]
    assert parts[1][:2] == [[2, 3], [6, 7]]
    assert len(parts[1]) == (3 if even else 2)
    two = DataLoader(whole.dataset, batch_size=5)
    assert [[x.tolist() for (x,) in devices(i).loader(two, even=even)] for i in (0, 1)] == [
        [[0, 1, 2, 3, 4]],
        [[5, 6, 7, 8, 9]],
    ]
    tensors = tensor_loader(13, train=False)
    labels = [
        [y for _, ys in devices(i).loader(tensors, even=even) for y in ys.tolist()] for i in (0, 1)
    ]
    assert sorted(labels[0] + labels[1]) == sorted(y for _, ys in tensors for y in ys.tolist())
    assert min(map(len, labels)) >= 4
    with pytest.raises(ConfigError, match="list cannot be split over 2 processes"):
        devices(0).loader([1, 2])


def test_the_workers_of_a_loader_do_not_outlive_an_epoch() -> None:
    data = TensorDataset(torch.arange(10))
    kept = DataLoader(data, batch_size=4, num_workers=1, persistent_workers=True)
    loader = Devices.choose("cpu").loader(kept)
    assert isinstance(loader, DataLoader)
    assert not loader.persistent_workers
    assert (loader.dataset, loader.num_workers) == (data, 1)
    assert loader.batch_sampler is kept.batch_sampler


def test_only_the_main_process_shows_progress() -> None:
    main, own = Devices.choose("cpu"), Silent()
    other = Devices(SimpleNamespace(is_main_process=False))  # type: ignore[arg-type]
    assert isinstance(make_listener(True, main), Lines)
    assert isinstance(make_listener(False, main), Silent)
    assert make_listener(own, main) is own
    assert isinstance(make_listener(True, other), Silent)


def test_modules_are_moved_and_on_a_gpu_laid_out_channels_last() -> None:
    far = Devices(SimpleNamespace(device=torch.device("meta"), num_processes=1))  # type: ignore[arg-type]
    model = TinyResNet()
    assert far.place(model) is model
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert model.stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.fc.weight.is_contiguous()
    assert far.laid_out(torch.ones(2, 3, 4, 4)).is_contiguous(memory_format=torch.channels_last)
    near = Devices.choose("cpu").laid_out(torch.ones(2, 3, 4, 4))
    assert near.is_contiguous(memory_format=torch.contiguous_format)


def test_an_error_of_the_main_process_is_raised_on_all(monkeypatch) -> None:
    def fail() -> None:
        raise ConfigError("no")

    monkeypatch.setattr(devices_module, "broadcast_object_list", lambda objects: objects)
    with pytest.raises(ConfigError, match="no"):
        Devices(TwoProcesses("cpu")).from_main(fail)
    other = Devices(SimpleNamespace(is_main_process=False, num_processes=2))  # type: ignore[arg-type]
    assert other.from_main(fail) is None, "only the main process runs it"


def test_another_device_than_that_of_the_process_is_refused(monkeypatch) -> None:
    def fail(**_: object) -> None:
        raise ValueError("has been initialised")

    monkeypatch.setattr(devices_module, "Accelerator", fail)
    with pytest.raises(ConfigError, match="already uses another device or precision: .*has been"):
        Devices.choose("cpu")
