import shutil

import pytest
import torch
from models import TinyResNet, batches

from refiner.core.errors import RunError
from refiner.runs.job import Output, announce, in_folder, set_up
from refiner.training.devices import Devices


class Heard:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def job_of(test_loader=None, **output):
    torch.manual_seed(0)
    return set_up(
        TinyResNet(), batches(3), batches(2), test_loader=test_loader, task="classification", example_input=None, seed=0,
        devices=Devices.choose("cpu"), output=Output(progress=False, **output),
    )  # fmt: skip


def test_a_job_knows_its_sizes_and_its_example() -> None:
    job = job_of()
    assert job.sizes == {"training batches": 3, "validation batches": 2}
    assert job.example.shape[0] == 2
    assert job.one.shape[0] == 1
    assert job.folder is None


def test_a_test_part_is_counted_apart() -> None:
    assert job_of().test_loader is None
    job = job_of(test_loader=batches(4))
    assert job.sizes["test batches"] == 4
    assert len(job.test_loader) == 4


def test_a_folder_is_dropped_when_nothing_was_done_before_an_error(tmp_path) -> None:
    job = job_of(out=tmp_path / "run")
    with in_folder(job, {"seed": 0}) as inside:
        assert inside.folder is not None
    assert (tmp_path / "run").exists()
    shutil.rmtree(tmp_path / "run")

    def fail() -> None:
        with in_folder(job, {"seed": 0}):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_equal_settings_only(tmp_path) -> None:
    with in_folder(job_of(out=tmp_path / "run"), {"seed": 0}) as job:
        job.save_checkpoint("search", {"epoch": torch.tensor(1)})
    with in_folder(job_of(out=tmp_path / "run", resume=True), {"seed": 0}) as job:
        assert job.load_checkpoint("search") == {"epoch": torch.tensor(1)}
    with (
        pytest.raises(RunError, match="seed is 0 there and 1 here"),
        in_folder(job_of(out=tmp_path / "run", resume=True), {"seed": 1}),
    ):
        pass


def test_what_is_announced_is_shown_and_kept() -> None:
    heard = Heard()
    assert announce(["one", "two"], heard) == ("one", "two")
    assert heard.notes == ["one", "two"]
