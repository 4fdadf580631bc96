import json

import pytest
import torch

from refiner.core.errors import RunError
from refiner.runs.run_folder import (
    RunFolder,
    check_free,
    load_or_make,
)
from refiner.training.devices import Devices


def test_a_new_folder_holds_its_config_and_nothing_is_written_over(tmp_path) -> None:
    path = tmp_path / "deep" / "run"
    folder = RunFolder.create(path, {"a": 1})
    assert folder.config() == {"a": 1}
    assert json.loads((path / "config.json").read_text())["format_version"] == 2
    with pytest.raises(RunError, match="holds a run already"):
        RunFolder.create(path, {})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(RunError, match="holds files already"):
        check_free(tmp_path / "other")
    with pytest.raises(RunError, match="is a file"):
        check_free(tmp_path / "other" / "file")


def test_no_partial_file_is_left(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    folder.save_checkpoint("search", {"epoch": 1})
    folder.record({"epoch": 1})
    assert not list(folder.path.rglob("*.partial"))


def test_what_is_kept_is_made_once(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    devices, made = Devices.choose("cpu"), {"model": 1.1}
    assert load_or_make(folder, "latency.json", lambda: made, devices) == made
    assert load_or_make(RunFolder.open(tmp_path / "run"), "latency.json", dict, devices) == made
    assert load_or_make(None, "latency.json", dict, devices) == {}
    (folder.path / "tensorboard").mkdir()
    (folder.path / "tensorboard" / "events").touch()
    folder.drop_if_nothing_is_done()
    assert not folder.path.exists()


def test_records_after_the_checkpoint_are_forgotten(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    for epoch in (1, 2, 3):
        folder.record({"epoch": epoch})
    folder = RunFolder.open(tmp_path / "run")
    folder.forget_after(2)
    folder.record({"epoch": 3, "again": True})
    assert RunFolder.open(tmp_path / "run").records[-2:] == [
        {"epoch": 2},
        {"epoch": 3, "again": True},
    ]


def test_checkpoints_come_back_and_damage_is_told(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    assert folder.load_checkpoint("search") is None
    folder.save_checkpoint("search", {"epoch": 3, "w": torch.ones(1000)})
    assert folder.load_checkpoint("search")["epoch"] == 3
    file = folder.path / "checkpoint" / "search.pt"
    for content in (file.read_bytes()[:2000], b"", b"text"):
        file.write_bytes(content)
        with pytest.raises(RunError, match="cut off or not a checkpoint"):
            folder.load_checkpoint("search")


def test_a_checkpoint_that_holds_code_is_refused(tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    folder = RunFolder.create(tmp_path / "run", {})
    folder.save_checkpoint("search", {})
    torch.save({"x": Evil()}, folder.path / "checkpoint" / "search.pt")
    with pytest.raises(RunError):
        folder.load_checkpoint("search")
    assert not (tmp_path / "owned").exists()


def test_a_folder_without_a_run(tmp_path) -> None:
    with pytest.raises(RunError, match=r"holds no config\.json"):
        RunFolder.open(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        RunFolder.open(tmp_path)
