"""A LightningModule from the command line: refined, evaluated, exported and trained further."""

import json
from pathlib import Path

import pytest
import torch
from lightning_modules import trainer, written
from refiner.cli.app import main
from refiner.cli.paths import absolute

import refiner

pytest.importorskip("lightning")
QUICK = [
    "--budget",
    "macs=70%",
    "--slots",
    "conv",
    "--trials",
    "4",
    "--epochs",
    "1",
    "--device",
    "cpu",
]
QUICK += ["--no-baselines", "--refit-steps", "2", "--force"]
AGAIN = ["--model", "lightning:lit.py:Classifier"]


@pytest.fixture
def lit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lit = written(tmp_path)
    fit = trainer(tmp_path, 2, enable_checkpointing=False)
    fit.fit(lit.Classifier(width=6), datamodule=lit.Colours())
    fit.save_checkpoint("best.ckpt")
    return lit


def test_a_checkpoint_is_refined_and_goes_back(lit, capsys) -> None:
    named = [
        "lightning:lit.py:Classifier",
        "--ckpt",
        "best.ckpt",
        "--data",
        "lightning:lit.py:Colours",
    ]
    assert main([*named, *QUICK, "--out", "run"]) == 0
    report = json.loads(Path("run/report.json").read_text())
    assert report["metric"] == "accuracy"
    assert report["after"]["macs"] <= 0.7 * report["before"]["macs"]
    assert report["top_k"][0][2] <= 0, "agreement: the checkpoint is the teacher"
    spec = json.loads(Path("run/architecture.json").read_text())["model"]["spec"]
    assert spec["arguments"] == {"width": 6, "lr": 0.1}
    Path("best.ckpt").unlink()
    assert main(["export", "run", "--format", "lightning", "--to", "refined.ckpt", *AGAIN]) == 0
    loaded = refiner.load_lightning("refined.ckpt", lit.Classifier).eval()
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(loaded(x), torch.jit.load("run/refined.ts")(x), rtol=0, atol=1e-5)
    capsys.readouterr()
    again = [*AGAIN, "--data", "lightning:lit.py:Colours", "--json"]
    assert main(["eval", "run", *again]) == 0
    assert main(["export", "run", "--format", "lightning"]) == 2
    assert "nothing was run" in capsys.readouterr().err


def test_loaders_of_the_module_are_used_where_no_data_is_named(lit, capsys) -> None:
    named = ["lightning:lit.py:WithLoaders", "--ckpt", "best.ckpt"]
    assert main(["eval", *named, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 24
    assert main(["eval", *named, "--limit", "3"]) == 2
    assert "loaders of its own" in capsys.readouterr().err


def test_a_function_may_return_the_refined_module(lit, capsys) -> None:
    model = lit.Classifier()
    space = refiner.search_space(model, torch.randn(2, 3, 8, 8), granularity="conv")
    refined = refiner.rewrite(model, space.architecture([1] * len(space.slots)))
    refiner.export(refined, "refined.ckpt", torch.randn(2, 3, 8, 8), "lightning")
    data = ["--data", "lightning:lit.py:Colours"]
    assert main(["eval", "lightning:lit.py:Classifier", "--ckpt", "refined.ckpt", *data]) == 2
    assert "holds a refined module" in capsys.readouterr().err
    text = "import refiner\nfrom lit import Classifier\n\ndef build():\n"
    text += "    return refiner.load_lightning('refined.ckpt', Classifier)\n"
    Path("again.py").write_text(text)
    assert main(["eval", "again.py:build", *data, "--json"]) == 0


def test_paths_are_absolute(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("lightning:lit.py:Net") == f"lightning:{tmp_path / 'lit.py'}:Net"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lightning:lit.py:Nothing"], "has no function 'Nothing'"),
        (["lightning:lit.py:Colours"], "no LightningModule"),
        (["lightning:around.py:Around"], "name a function that returns the module"),
        (["lightning:lit.py:Classifier", "--ckpt", "missing.ckpt"], "there is no file"),
        (
            ["lightning:lit.py:Classifier", "--data", "lightning:lit.py:Classifier"],
            "gives a Classifier",
        ),
    ],
)
def test_bad_input_is_one_line(lit, capsys, arguments, message) -> None:
    text = "import lit\nclass Around(lit.Painter):\n    def __init__(self, net):\n        pass\n"
    Path("around.py").write_text(text)
    assert main([*arguments, "--budget", "macs=60%", "--out", "run"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("run").exists()
