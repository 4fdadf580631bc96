from pathlib import Path

import pytest
from refiner.cli.paths import (
    absolute,
    candidate_list,
    check_new_file,
    free_folder,
    model_arguments,
    weights_file,
)

from refiner.core.errors import ConfigError


def test_paths_become_absolute_and_names_stay(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("net.py:build") == f"{tmp_path / 'net.py'}:build"
    assert absolute("folder:images") == f"folder:{tmp_path / 'images'}"
    assert absolute("coco:images") == f"coco:{tmp_path / 'images'}"
    assert absolute("timm:resnet18") == "timm:resnet18"


def test_a_folder_of_a_run_stands_for_its_weights(tmp_path) -> None:
    assert weights_file(str(tmp_path)) == str(tmp_path / "refined.safetensors")
    assert weights_file(str(tmp_path / "w.pt")) == str(tmp_path / "w.pt")


def test_a_new_folder_gets_the_next_number(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert free_folder("a") == Path("runs/a")
    Path("runs/a").mkdir(parents=True)
    assert free_folder("a") == Path("runs/a-2")


def test_files_are_never_written_over(tmp_path) -> None:
    (tmp_path / "there").write_text("")
    with pytest.raises(ConfigError, match="exists already"):
        check_new_file(tmp_path / "there")
    with pytest.raises(ConfigError, match="no folder"):
        check_new_file(tmp_path / "no" / "file")


def test_lists_and_arguments_are_parsed() -> None:
    assert candidate_list(None) is None
    assert candidate_list("a, b,") == ("a", "b")
    with pytest.raises(ConfigError, match="empty"):
        candidate_list(",")
    assert model_arguments(["a=1", "b=x", "c=(1, 2)"]) == {"a": 1, "b": "x", "c": (1, 2)}
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        model_arguments(["a"])
