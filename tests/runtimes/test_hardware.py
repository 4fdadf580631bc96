import torch

from refiner.runtimes.hardware import hardware_name, torch_threads

CPU = torch.device("cpu")


def test_the_processor_is_named_with_its_threads(tmp_path, monkeypatch) -> None:
    cpus = tmp_path / "cpuinfo"
    cpus.write_text("processor\t: 0\nmodel name\t: A CPU: fast\nprocessor\t: 1\nmodel name\t: B\n")
    monkeypatch.setattr("refiner.runtimes.hardware.Path", lambda _: cpus)
    assert hardware_name(CPU, 1) == "A CPU: fast, 1 thread"
    cpus.unlink()
    monkeypatch.setattr("platform.machine", lambda: "a machine")
    assert hardware_name(CPU, 2) == "a machine, 2 threads"


def test_threads_of_torch_are_set_for_a_while() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
