import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

import refiner
from refiner.runs.settings import DISTILLED_SEARCH

pytest.importorskip("lightning")
FILE = Path(__file__).resolve().parents[2] / "examples" / "lightning_classifier.py"


def test_the_example_goes_the_whole_way(tmp_path, capsys) -> None:
    spec = importlib.util.spec_from_file_location("lightning_classifier", FILE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    quick = {"baselines": False, "progress": False, "device": "cpu", "force": True}
    quick |= {"search": replace(DISTILLED_SEARCH, trials=3), "refit": refiner.RefitConfig(steps=2)}
    quick |= {"candidates": ("keep0.5", "keep0.25")}
    result = example.main(tmp_path, epochs=1, count=200, **quick)
    assert type(result.model) is example.Classifier
    assert result.report.after.macs <= 0.5 * result.report.before.macs
    assert (tmp_path / "refined.onnx").is_file()
    assert "'accuracy':" in capsys.readouterr().out
