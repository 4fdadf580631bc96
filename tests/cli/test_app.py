"""The command: its options, its errors, and a small run end to end."""

import copy
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

import pytest
import torch
import typer
from image_folders import fill
from models import anchored_as_predicted, latencies
from refiner.cli.app import app, main
from refiner.cli.commands import benchmark_command, eval_command, run_command, train_command
from safetensors.torch import load_file

SMALL = ["--warmup-epochs", "1", "--search-epochs", "1", "--trials", "2", "--samples", "2", "--batch-size",
         "64", "--limit", "128", "--device", "cpu"]  # fmt: skip

SOURCE = """
import torch
from torch import nn


def build_model(num_classes=10, width=4):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, width, 3, 2, 1)
            self.one = nn.Conv2d(width, width, 3, padding=1)
            self.norm = nn.BatchNorm2d(width)
            self.two = nn.Conv2d(width, width, 3, padding=1)
            self.fc = nn.Linear(width, num_classes)

        def forward(self, x):
            x = torch.relu(self.stem(x))
            x = x + torch.relu(self.norm(self.one(x)))
            x = x + self.two(x)
            return self.fc(x.mean((2, 3)))

    return Net()


def raises():
    raise RuntimeError("boom\\nsecond line")


def text():
    return "text"


def wants(depth, num_classes):
    return build_model(num_classes)


def no_conv(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))


def gray():
    return nn.Sequential(nn.Conv2d(7, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(3136, 10))


def nan_loaders():
    images = torch.full((8, 3, 8, 8), float("nan"))
    return [(images, torch.zeros(8, dtype=torch.long))] * 2, [(images, torch.zeros(8).long())]


def wide_loaders():
    batch = (torch.zeros(8, 5, 8, 8), torch.zeros(8).long())
    return [batch], [batch]
"""


@pytest.fixture
def net(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(SOURCE)
    return "net.py:build_model"


def options(command: str) -> set[str]:
    found = typer.main.get_command(app).commands[command]
    declared = {
        "run": run_command, "train": train_command, "eval": eval_command,
        "benchmark": benchmark_command,
    }  # fmt: skip
    if command in declared:
        inner = typer.Typer(add_completion=False)
        inner.command()(declared[command])
        found = typer.main.get_command(inner)
    return {name for p in found.params for name in (*p.opts, *p.secondary_opts)}


def test_commands_and_options_are_frozen() -> None:
    common = {
        "--slots",
        "--candidates",
        "--allow-larger",
        "--channel-multiple",
        "--only",
        "--skip",
        "--model-arg",
        "--json",
    }
    assert set(typer.main.get_command(app).commands) == {
        "run", "train", "compare", "slots", "apply", "report", "export", "recipes",
        "eval", "benchmark", "config",
    }  # fmt: skip
    training = {
        "model", "--data", "--task", "--verify", "--epochs", "--lr", "--schedule", "--batch-size", "--limit",
        "--image-size", "--data-root", "--model-arg", "--pretrained", "--weights", "--ckpt", "--seed", "--device",
        "--precision", "--out", "--resume", "--json", "--trust", "--trust-weights", "--force", "--test-data",
        "--mean", "--std", "--norm", "--ema", "--unlabelled", "--log",
    }  # fmt: skip
    assert options("train") == training | {"--arch", "--teacher", "--teacher-weight"}
    assert options("eval") == {
        "model", "--data", "--task", "--verify", "--batch-size", "--limit", "--image-size",
        "--data-root", "--model-arg", "--pretrained", "--weights", "--ckpt", "--seed", "--device",
        "--precision", "--json", "--trust", "--trust-weights", "--model", "--test-data",
        "--mean", "--std", "--norm",
    }  # fmt: skip
    assert options("benchmark") == options("eval") - {"--seed"} | {
        "--runtime", "--threads", "--latency-batch",
    }  # fmt: skip
    assert options("compare") == {"folders", "--json"}
    assert options("run") == common | training | {
        "--strategy", "--refit-steps", "--warmup-epochs", "--search-epochs", "--trials", "--timeout", "--samples",
        "--recipe", "--scale", "--teacher-weight",
        "--pretrain", "--no-pretrain", "--budget", "--distill", "--no-distill", "--baselines",
        "--no-baselines", "--seeds", "--latency-batch", "--runtime", "--threads", "--config",
    }  # fmt: skip
    assert options("slots") == common | {
        "model", "--input-size", "--graph", "--data", "--latency", "--latency-batch", "--runtime", "--threads",
    }  # fmt: skip
    assert options("apply") == common | {
        "model", "architecture", "--pick", "--input-size", "--data", "--pretrained", "--weights", "--ckpt", "--seed", "--out",
        "--model", "--trust", "--trust-weights",
    }  # fmt: skip
    assert options("report") == {"folder", "--open", "--json"}
    assert options("config") == {"folder"}
    assert options("export") == {
        "folder", "--format", "--to", "--model", "--trust", "--fold-norms", "--any-size", "--int8", "--data",
    }  # fmt: skip


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nfrom refiner.cli.app import main\nmain(['--help'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "refine MODEL" in done.stdout


def test_a_run_and_what_follows_it(net, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # a table folds its heads where its numbers are long
    out = Path("run")
    assert main([net, *SMALL, "--epochs", "1", "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["trained"]["epochs"] == 1
    assert "scikit-learn" in captured.err
    assert "warm-up  2/2" in captured.err

    Path("run/report.html").unlink()  # as in a run of old
    assert main(["report", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "accuracy after 1 epoch" in shown
    assert "page: run/report.html" in shown
    assert "validation accuracy after 1 epoch" in Path("run/report.html").read_text()
    assert main(["export", str(out), "--to", "copy.ts", "--trust"]) == 0
    x = torch.randn(3, 3, 32, 32)
    one, two = (torch.jit.load(f)(x) for f in ("run/refined.ts", "copy.ts"))
    assert torch.allclose(one, two, atol=1e-5)
    capsys.readouterr()

    assert main(["--resume", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["vector"], again["trained"]) == (report["vector"], report["trained"])
    assert main(["apply", net, "run/architecture.json", "--json"]) == 0
    applied = json.loads(capsys.readouterr().out)
    assert applied["vector"] == report["vector"]
    assert applied["after"] == report["after"]  # at the input size of the run


def test_an_architecture_is_trained_on_other_data_and_compared(net, capsys) -> None:
    assert main([net, *SMALL, "--epochs", "1", "--out", "found"]) == 0
    limits = ["--epochs", "1", "--limit", "128", "--device", "cpu"]
    assert (
        main(["train", net, "--arch", "found", *limits, "--image-size", "16", "--out", "there"])
        == 0
    )
    assert main(["train", net, *limits, "--schedule", "step", "--out", "as-it-is"]) == 0
    capsys.readouterr()
    assert main(["compare", "found", "there", "as-it-is", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in rows] == ["found", "found", "there", "as-it-is"]
    assert [row["network"] for row in rows][0] == "original"
    assert rows[1]["vector"] == rows[2]["vector"]
    assert rows[1]["params"] == rows[2]["params"]
    assert rows[2]["macs"] < rows[1]["macs"], "the images were smaller"
    assert all(0 <= row["scores"]["validation accuracy"] <= 1 for row in rows)
    assert all(row["latency_ms"] > 0 and row["latency_noise_ms"] >= 0 for row in rows)
    assert main(["compare", "found", "there"]) == 0
    out = capsys.readouterr().out
    assert "as-it-is" not in out
    assert f"{rows[0]['latency_ms']:.2f} ± {rows[0]['latency_noise_ms']:.2f} ms" in out
    assert main(["export", "there", "--to", "there.ts", "--trust"]) == 0
    assert main(["train", "--resume", "there", "--json", "--trust"]) == 0
    assert main(["train", "--resume", "found"]) == 2
    assert "no run that this command" in capsys.readouterr().err


def test_a_folder_of_several_runs_is_reported_and_compared_by_its_name(net, capsys) -> None:
    for name in ("a", "b"):
        assert main([net, *SMALL, "--epochs", "0", "--out", f"both/{name}"]) == 0
    Path("both/report.md").write_text("what the recipe found\n")
    Path("both/report.json").write_text("{}")
    capsys.readouterr()
    assert main(["compare", "both", "--json"]) == 0
    assert [row["run"] for row in json.loads(capsys.readouterr().out)] == ["both/a", "both/b"]
    assert main(["report", "both"]) == 0
    out = capsys.readouterr().out
    assert "what the recipe found" in out
    assert "both: report.json report.md" in out
    assert main(["report", "both/a"]) == 0
    assert "architecture" in capsys.readouterr().out
    assert main(["report", "both", "--open"]) == 2
    assert "both holds several runs, and --open shows one" in capsys.readouterr().err


def test_a_page_opens_in_the_browser_where_there_is_one(net, capsys, monkeypatch) -> None:
    assert main(["apply", net, "1,2", "--out", "applied", "--input-size", "3,16,16"]) == 0
    opened = []
    monkeypatch.setattr(
        webbrowser, "open", lambda address: opened.append(address) or len(opened) < 2
    )
    assert main(["report", "applied"]) == 0
    assert not opened
    assert main(["report", "applied", "--open"]) == 0
    assert opened == [Path("applied/report.html").resolve().as_uri()]
    capsys.readouterr()
    assert main(["report", "applied", "--open"]) == 2
    error = "error: no browser can be opened here. Open applied/report.html yourself.\n"
    assert capsys.readouterr().err == error


def test_the_default_folder_is_new_each_time(net) -> None:
    for _ in range(2):
        assert main([net, *SMALL, "--epochs", "0"]) == 0
    assert {p.name for p in Path("runs").iterdir()} == {
        "build_model-digits",
        "build_model-digits-2",
    }


def test_slots_and_apply(net, capsys) -> None:
    assert main(["slots", net, "--input-size", "3,16,16", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [s["name"] for s in document["slots"]] == ["one", "two"]
    assert document["frozen"] == [{"name": "stem", "reason": "stem: reads the model's input"}]
    assert document["least_macs"] < document["macs"] == document["most_macs"]
    share = document["macs_in_slots"] / document["macs"]
    assert document["share_in_slots"] == {"conv": share, "all": share, "group": share}
    assert main(["slots", net]) == 0
    shown = capsys.readouterr().out
    assert "2 slots, 25 architectures" in shown
    assert shown.splitlines()[-1] == (
        "MACs in reach: "
        + ", ".join(f"{100 * share:.0f} % with --slots {each}" for each in ("group", "all", "conv"))
    )
    assert "Skip connections, which stay unchanged" in shown
    assert main(["slots", net, "--data", "digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["input"] == "2x3x32x32"
    assert main(["slots", net, "--graph", "net.svg"]) == 0
    assert Path("net.svg").read_text().startswith("<svg")
    capsys.readouterr()
    assert main(["apply", net, "[1, 2]", "--out", "applied", "--input-size", "3,16,16"]) == 0
    assert "architecture 1,2" in capsys.readouterr().out
    assert {p.name for p in Path("applied").iterdir()} == {
        "config.json", "architecture.json", "network.json", "report.json", "report.md", "report.html", "refined.ts",
        "refined.safetensors",
    }  # fmt: skip
    assert main(["export", "applied", "--to", "again.ts", "--trust"]) == 0
    x = torch.randn(2, 3, 16, 16)
    one, two = (torch.jit.load(f)(x) for f in ("applied/refined.ts", "again.ts"))
    assert torch.equal(one, two)


def test_slots_traces_the_model_once(net, monkeypatch) -> None:
    from refiner.graph import tracing

    copies = []

    def copied(model):
        copies.append(model)
        return copy.deepcopy(model)

    monkeypatch.setattr(tracing, "copied", copied)
    for slots in ("auto", "conv"):
        copies.clear()
        arguments = ["--slots", slots, "--graph", f"{slots}.svg", "--input-size", "3,8,8"]
        assert main(["slots", net, *arguments]) == 0
        assert len(copies) == 1


def test_the_share_in_reach_is_told_of_pointwise_convs_too(net, capsys) -> None:
    Path("bottleneck.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    convs = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)]\n"
        "    return nn.Sequential(*convs, nn.Conv2d(8, 8, 1))\n"
    )
    arguments = ["slots", "bottleneck.py:build", "--input-size", "3,4,4", "--json"]
    macs = 16 * 8 * (27 + 72 + 8 + 8)
    for slots in ("conv", "all"):
        assert main([*arguments, "--slots", slots]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["macs"] == macs
        assert document["share_in_slots"]["conv"] == 16 * 8 * 72 / macs
        assert document["share_in_slots"]["all"] > document["share_in_slots"]["conv"]
        assert document["macs_in_slots"] / macs == document["share_in_slots"][slots]


def test_slots_names_what_nobody_counts(net, capsys) -> None:
    source = SOURCE.replace("x = torch.relu(self.stem(x))", "x = torch.fft.fft(self.stem(x)).abs()")
    Path("fourier.py").write_text(source)
    arguments = ["slots", "fourier.py:build_model", "--input-size", "3,16,16"]
    assert main(arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "note: not counted, though they may multiply and accumulate: _fft_" in shown
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["missed"]
    assert set(document["missed"]) <= set(document["uncounted"])


def test_slots_are_timed_where_that_is_asked_for(net, capsys) -> None:
    assert main(["slots", net, "--input-size", "3,8,8", "--latency", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    each = [c for slot in document["slots"] for c in slot["candidates"]]
    assert all(c["latency_ms"] > 0 and c["latency_noise_ms"] >= 0 for c in each)
    assert document["latency"]["latency_ms"] > 0
    assert (document["latency"]["batch"], document["latency"]["precision"]) == (1, "no")
    batch = ["slots", net, "--input-size", "3,8,8", "--latency", "--latency-batch"]
    assert main([*batch, "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latency"]["batch"] == 5
    assert main([*batch, "0"]) == 2
    assert "--latency-batch is 0. Give 1 or more." in capsys.readouterr().err
    assert main(["slots", net, "--input-size", "3,8,8", "--latency"]) == 0
    shown = capsys.readouterr().out
    assert " ± " in shown
    assert "the model takes " in shown
    assert main(["slots", net, "--input-size", "3,8,8", "--json"]) == 0
    assert "latency" not in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--runtime=eager", "--threads=1", "--latency-batch=2"])
def test_options_of_the_timing_want_it(net, capsys, option) -> None:
    assert main(["slots", net, "--input-size", "3,8,8", option]) == 2
    name = option.partition("=")[0]
    assert capsys.readouterr().err == f"error: {name} goes with --latency. Give both.\n"


def test_model_arguments_reach_the_builder(net, capsys) -> None:
    assert main(["slots", net, "--model-arg", "width=6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["slots"][0]["original"] == "conv3x3 6->6"


def test_weights_of_a_model_with_the_classes_of_the_data(net, capsys) -> None:
    from refiner.core.models import ModelSpec

    weights = ModelSpec(source="timm:resnet10t", classes=10).build().state_dict()
    torch.save(weights, "ten.pt")
    arguments = ["timm:resnet10t", *SMALL, "--weights", "ten.pt", "--lr", "0.00005"]
    assert main([*arguments, "--epochs", "0", "--out", "run"]) == 0


def test_recipes(net, capsys) -> None:
    assert main(["recipes"]) == 0
    assert "lresnet50e-ir-faces" in capsys.readouterr().out
    assert main(["recipes", "copy", "lresnet50e-ir-faces", "mine.py"]) == 0
    assert Path("mine.py").read_text().startswith('"""LResNet50E-IR')
    for bad in (
        ["copy", "lresnet50e-ir-faces", "mine.py"],
        ["show", "x"],
        ["eat"],
        ["copy", "lresnet50e-ir-faces"],
    ):
        assert main(["recipes", *bad]) == 2


RECIPE = """
import refiner
from refiner.runs.recipe import RecipeSettings
from net import build_model


def run(settings: RecipeSettings) -> None:
    limit = settings.scale.count("training images", 1400)
    data = refiner.load_data(settings.data or "digits", limit=limit, seed=settings.seed)
    for name in ("one", "two"):
        out = settings.out / name
        refiner.train_architecture(
            build_model(), data.train, data.val, config=refiner.TrainConfig(epochs=1), out=out,
            resume=settings.resume and out.exists(), notes=settings.scale.notes, **settings.running(),
        )
"""


def test_a_recipe_of_ones_own_runs_scaled_and_goes_on(net, capsys) -> None:
    Path("mine.py").write_text(RECIPE)
    assert main(["--recipe", "mine.py", "--scale", "0.1", "--device", "cpu", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in rows] == ["runs/mine/one", "runs/mine/two"]
    assert "scale 0.1 of the experiment" in Path("runs/mine/one/report.md").read_text()
    assert "training images 140 of 1,400" in Path("runs/mine/one/report.md").read_text()
    for file in Path("runs/mine/two").glob("*.*"):
        file.unlink()  # as if it had been stopped before
    os.remove("runs/mine/two/checkpoint/train.pt")
    os.removedirs("runs/mine/two/checkpoint")
    assert main(["--resume", "runs/mine", "--recipe", "mine.py", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [r["scores"] for r in again] == [r["scores"] for r in rows]


BAD = {
    "recipe and a model": (["NET", "--recipe", "resnet18-8-cifar10"], "MODEL is set by the recipe"),
    "recipe and its numbers": (["--recipe", "x", "--epochs", "3"], "--epochs is set by the recipe"),
    "unknown recipe": (["--recipe", "x"], "there is no recipe 'x'"),
    "file that is not a recipe": (["--recipe", "net.py"], "has no function 'run'"),
    "scale out of range": (["--recipe", "resnet18-8-cifar10", "--scale", "2"], "scale is 2.0"),
    "scale without a recipe": (["NET", "--scale", "0.5"], "--scale goes with a recipe"),
    "recipe without its data": (["--recipe", "resnet18-imagenet-transfer"], "Give --data folder"),
    "unknown timm name": (["timm:resnet81"], "Did you mean"),
    "missing file": (["gone.py:build"], "gone.py. Name an existing"),
    "missing function": (["net.py:gone"], "has no function 'gone'"),
    "function that raises": (["net.py:raises"], "boom second line"),
    "function that returns no module": (["net.py:text"], "not a torch.nn.Module"),
    "model without convs": (["net.py:no_conv"], "no convs"),
    "wrong data name": (["NET", "--data", "imagenet"], "Choose digits"),
    "empty folder": (["NET", "--data", "folder:empty"], "holds no images"),
    "missing folder": (["NET", "--data", "folder:none"], "there is no folder"),
    "unknown candidate": (["NET", "--candidates", "conv9x9"], "unknown candidate 'conv9x9'"),
    "negative epochs": (["NET", "--epochs", "-1"], "epochs is -1"),
    "negative warm-up": (["NET", "--warmup-epochs", "-3"], "warmup_epochs is -3"),
    "negative training": (["NET", "--epochs", "-3"], "epochs is -3"),
    "no channels in a block": (["NET", "--channel-multiple", "0"], "channel_multiple is 0"),
    "unknown slots": (["NET", "--slots", "layer"], "conv, block"),
    "unknown device": (["NET", "--device", "tpu"], "auto, cpu, cuda"),
    "unknown strategy": (
        ["NET", "--strategy", "bayes"],
        "auto, controller, informed_controller, milp",
    ),
    "unknown task": (["NET", "--task", "pose"], "classification, segmentation, regression"),
    "unknown option": (["NET", "--speed", "9"], "--speed"),
    "text for a number": (["NET", "--epochs", "many"], "wants a whole number"),
    "out that holds a run": (["NET", "--out", "taken"], "holds a run already"),
    "resume without a run": (["--resume", "empty"], "holds no config.json"),
    "resume without a checkpoint": (["--resume", "fresh", "NET"], "no checkpoint"),
    "resume with a cut-off checkpoint": (["--resume", "cut", "NET"], "cut off"),
    "vector too short": (["apply", "NET", "1"], "has 1 numbers"),
    "vector of other slots": (["apply", "NET", "1"], "with --slots conv the model has 2 slots"),
    "pruning without groups": (
        ["NET", "--candidates", "keep0.5"],
        "no admissible candidate among keep0.5",
    ),
    "report of a run that has not ended": (["report", "taken"], "refine --resume taken"),
    "export of a run that has not ended": (["export", "taken"], "refine --resume taken"),
    "name of another format": (
        ["export", "fresh", "--to", "x.onnx", "--trust"],
        "Choose the format onnx",
    ),
    "index out of range": (["apply", "NET", "1,9"], "no candidate 9"),
    "no vector": (["apply", "NET", "one,two"], "neither a file"),
    "architecture of another model": (["apply", "timm:resnet10t", "arch.json"], "another model"),
    "candidates beside a file that has them": (
        ["apply", "NET", "arch.json", "--candidates", "maxpool3x3"],
        "holds its slots and candidates",
    ),
    "mistyped command": (["slot", "NET"], "Did you mean slots"),
    "unknown format": (["export", "fresh", "--format", "coreml"], "torchscript, python, onnx, pt2"),
    "place that cannot be written": (
        ["recipes", "copy", "lresnet50e-ir-faces", "/proc/x.py"],
        "/proc/x.py",
    ),
    "huge input": (["slots", "NET", "--input-size", "3,9999999,9999999"], "too large"),
    "mistyped function": (["net.py:buildmodel"], "Did you mean build_model?"),
    "builder with an argument of its own": (["net.py:wants"], "--model-arg NAME=VALUE"),
    "one class": (["NET", "--data", "folder:single"], "only one class"),
    "input size": (["slots", "NET", "--input-size", "big"], "C,H,W"),
    "loader that does not fit": (["NET", "--data", "net.py:wide_loaders"], "8x5x8x8"),
    "channels that do not fit": (
        ["net.py:gray"],
        "fails on a batch of the loader (64x3x32x32, 64)",
    ),
    "NaN inputs": (["NET", "--data", "net.py:nan_loaders", "--out", "nan"], "the inputs hold NaN"),
    "no model": (["--epochs", "1"], "no MODEL"),
    "no model to train": (["train", "--epochs", "1"], "no MODEL"),
    "unknown schedule": (["train", "NET", "--schedule", "linear"], "sgdr, cosine, step"),
    "training without its architecture": (["train", "NET", "--arch", "gone.json"], "no file"),
    "compared with nothing": (["compare", "empty"], "holds no config.json"),
    "option of a resumed run": (["--resume", "fresh", "--epochs", "9"], "--epochs cannot change"),
    "file without a function": (["net.py"], "It has: build_model, raises, text"),
    "copy into a missing folder": (
        ["recipes", "copy", "lresnet50e-ir-faces", "no/a.py"],
        "no folder no",
    ),
    "export into a missing folder": (["export", "fresh", "--to", "no/a.ts"], "no folder no"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_line_and_status_2(case, net, capsys, monkeypatch) -> None:
    arguments, message = BAD[case]
    Path("empty").mkdir()
    Path("single/a").mkdir(parents=True)
    Path("single/a/x.png").touch()
    if "taken" in arguments:
        Path("taken").mkdir()
        Path("taken/config.json").write_text("{}")
    if {"fresh", "cut"} & set(arguments):
        folder = arguments[1]
        assert main([net, *SMALL, "--epochs", "0", "--out", folder]) == 0
        checkpoint = Path(folder, "checkpoint", "search.pt")
        if "resume with" in case and folder == "cut":
            checkpoint.write_bytes(checkpoint.read_bytes()[:-500])
            Path(folder, "report.json").unlink()  # as in a run that was stopped
        else:
            checkpoint.unlink()
            if case.startswith("resume"):
                Path(folder, "report.json").unlink()
    if "arch.json" in arguments:
        assert main(["apply", net, "1,1", "--out", "other"]) == 0
        os.replace("other/architecture.json", "arch.json")
    capsys.readouterr()
    before = {p for p in Path().rglob("*") if "__pycache__" not in p.parts}
    assert main([net if a == "NET" else a for a in arguments]) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in captured.err
    after = {p for p in Path().rglob("*") if "__pycache__" not in p.parts}
    assert after == before


def start(net: str, *more: str) -> subprocess.Popen:
    # A shell that runs the tests in the background may have told its children to ignore interrupts.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from refiner.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-c",
        code,
        net,
        *SMALL,
        "--search-epochs",
        "6",
        "--trials",
        "12",
        "--epochs",
        "0",
        *more,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(file: Path, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if file.exists() or process.poll() is not None:
            return
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result_to_the_bit(net) -> None:
    assert (
        main(
            [
                net,
                *SMALL,
                "--search-epochs",
                "6",
                "--trials",
                "12",
                "--epochs",
                "0",
                "--out",
                "whole",
            ]
        )
        == 0
    )
    process = start(net, "--out", "killed")
    wait_for(Path("killed/metrics.jsonl"), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not Path("killed/report.json").exists()
    assert main(["--resume", "killed", "--trust"]) == 0
    for name in ("refined.safetensors", "metrics.jsonl", "architecture.json"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes(), name


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_with_the_line_that_resumes(net) -> None:
    process = start(net, "--search-epochs", "60", "--trials", "600", "--out", "stopped")
    wait_for(Path("stopped/checkpoint/search.pt"), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "refine --resume stopped" in err
    assert "Traceback" not in err


def test_a_front_with_latencies_is_picked_from_by_them(net, capsys, monkeypatch) -> None:
    from refiner.runs import costing, latency_limit

    def measured(_job, space, _budgets, _deployment):
        return latencies(space, 16.0, lambda _, k: 7.0 - k)

    monkeypatch.setattr(costing, "timed_table", measured)
    monkeypatch.setattr(latency_limit, "anchored", anchored_as_predicted)
    run = [net, *SMALL, "--epochs", "0", "--budget", "latency=90%", "--out", "run"]
    run += ["--latency-batch", "2"]
    assert main(run) == 0
    assert "latency.json" in capsys.readouterr().out
    pareto = json.loads(Path("run/pareto.json").read_text())
    assert pareto["original"]["latency"] == 16.0
    fast = min(point["latency"] for point in pareto["front"])
    assert main(["apply", "run", "--pick", f"latency={fast}ms", "--json", "--trust"]) == 0
    picked = json.loads(capsys.readouterr().out)
    assert 16.0 - sum(picked["vector"]) == fast
    assert [each["conditions"]["batch"] for each in picked["latencies"]] == [2, 2]
    assert f"latency {fast:.2f} ms, as predicted by the run's latency table" in picked["notes"]
    assert main(["apply", "run", "--pick", f"latency={100 / 16 * fast + 0.01}%", "--trust"]) == 0
    assert main(["apply", "run", "--pick", "latency=1%", "--trust"]) == 2
    assert f"the least: latency {fast:.2f} ms" in capsys.readouterr().err


def test_a_trained_model_is_refined_within_a_budget(net, capsys) -> None:
    assert main(["train", net, "--epochs", "1", *SMALL[-6:], "--out", "trained"]) == 0
    run = [
        net,
        *SMALL[2:],
        "--weights",
        "trained/refined.safetensors",
        "--force",
        "--strategy",
        "milp",
    ]
    run += ["--epochs", "1", "--budget", "macs=70%", "--budget", "params=90%"]
    assert main([*run, "--out", "run"]) == 0
    report = json.loads(Path("run/report.json").read_text())
    assert report["after"]["macs"] <= 0.7 * report["before"]["macs"]
    assert report["after"]["params"] <= 0.9 * report["before"]["params"]
    settings = dict(report["settings"])
    assert settings["budget"] == "macs=70%,params=90%"
    assert json.loads(Path("run/config.json").read_text())["settings"]["slots"] == "group"
    assert settings["train.lr_max"] == "0.01"
    assert settings["train.teacher_weight"] == "0.9"
    assert int(settings["distill.steps"]) > 0
    assert settings["search.recalibration_batches"] == "2"
    assert "refit.steps" in settings
    notes = " ".join(report["notes"])
    page = Path("run/report.md").read_text()
    assert "The search, the Pareto front and --pick go by agreement with the original" in page
    assert "accuracy before fine-tuning |" in page
    assert 0 <= report["original_score"] <= 1
    assert "the effects of all single swaps were estimated" in notes
    front = json.loads(Path("run/pareto.json").read_text())["front"]
    cheap = min(point["macs"] for point in front)
    capsys.readouterr()
    assert (
        main(["apply", "run", "--pick", f"macs={cheap}", "--out", "picked", "--json", "--trust"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["after"]["macs"] == cheap
    assert main(["train", net, *SMALL[-6:], "--epochs", "1", "--arch", "picked"]) == 0
    assert main(["apply", "run", "--pick", "macs=101", "--trust"]) == 2
    assert "no architecture of this front" in capsys.readouterr().err
    assert main(["apply", "run", "--pick", "latency=1ms", "--trust"]) == 2
    assert "has no latency" in capsys.readouterr().err
    assert main(["apply", "run"]) == 2
    assert "no architecture is named" in capsys.readouterr().err
    before = {file.name: file.read_bytes() for file in Path("run").iterdir() if file.is_file()}
    assert main(["--resume", "run"]) == 0
    assert "This run is finished" in capsys.readouterr().err
    assert before == {
        file.name: file.read_bytes() for file in Path("run").iterdir() if file.is_file()
    }
    assert main([*run, "--distill", "--warmup-epochs", "2", "--out", "other"]) == 2
    assert "Leave one of them out" in capsys.readouterr().err
    assert main(["timm:resnet10t", "--distill", "--out", "other"]) == 2
    assert "timm:resnet10t has none here" in capsys.readouterr().err
    assert main([net, "--budget", "macs=1%", *SMALL, "--out", "other"]) == 2
    assert "out of reach" in capsys.readouterr().err
    assert main([net, "--budget", "cost=1", "--out", "other"]) == 2
    assert "Choose one of: macs, params, latency" in capsys.readouterr().err
    assert not Path("other").exists()


def test_without_labels_there_has_to_be_a_teacher(net, capsys) -> None:
    for words, message in (
        ([net], "--unlabelled follows the outputs of a trained model"),
        (["train", net], "--unlabelled goes with --teacher"),
        (["timm:resnet10t", "--pretrained", "--teacher-weight", "1"], "Leave one of them out"),
    ):
        assert main([*words, "--unlabelled", "--out", "other"]) == 2
        assert message in capsys.readouterr().err
    assert not Path("other").exists()


def test_a_network_is_tuned_with_the_original_as_teacher(net, capsys) -> None:
    last = ["--epochs", "1", *SMALL[-6:]]
    assert main(["train", net, *last, "--out", "trained"]) == 0
    assert main(["apply", net, "1,0", "--data", "digits", "--out", "arch"]) == 0
    tune = ["train", net, *last, "--arch", "arch", "--lr", "0.01"]
    assert main([*tune, "--teacher", "trained", "--force", "--out", "taught"]) == 0
    settings = dict(json.loads(Path("taught/report.json").read_text())["settings"])
    assert settings["train.teacher_weight"] == "0.9"
    # The operation that stays began with the teacher's weights, and has hardly moved since.
    before, after = (
        load_file(f"{name}/refined.safetensors")["two.weight"] for name in ("trained", "taught")
    )
    assert float((after - before).norm() / before.norm()) < 0.2
    capsys.readouterr()
    assert main([*tune, "--teacher-weight", "0.5", "--out", "other"]) == 2
    assert "goes with --teacher" in capsys.readouterr().err
    assert main([*tune, "--teacher", "nowhere.pt", "--out", "other"]) == 2
    assert "nowhere.pt" in capsys.readouterr().err
    assert not Path("other").exists()
    assert main(["train", "--resume", "taught", "--trust"]) == 0


def test_a_picked_architecture_is_refitted_as_the_run_s_own_was(net, capsys, monkeypatch) -> None:
    scores = itertools.count()  # no part of a refit is undone
    judged = "refiner.runs.refitting.evaluate_both"
    monkeypatch.setattr(judged, lambda *_: [(float(next(scores)), 0.0)])
    assert main(["train", net, "--epochs", "1", *SMALL[-6:], "--out", "trained"]) == 0
    run = [net, *SMALL[2:], "--weights", "trained", "--force", "--strategy", "milp"]
    run += ["--epochs", "0", "--refit-steps", "3"]
    assert main([*run, "--budget", "macs=70%", "--out", "run"]) == 0
    macs = json.loads(Path("run/report.json").read_text())["after"]["macs"]
    capsys.readouterr()
    assert (
        main(["apply", "run", "--pick", f"macs={macs}", "--out", "picked", "--json", "--trust"])
        == 0
    )
    notes = json.loads(capsys.readouterr().out)["notes"]
    (note,) = [note for note in notes if "that the search left, refitted as the run" in note]
    line = shlex.split(note.partition("Fine-tune it: ")[2])
    assert {"--teacher", "--limit"} <= set(line)
    assert main([*line[1:], "--epochs", "1", "--force", "--out", "tuned"]) == 0
    trained, own, picked = (
        load_file(f"{d}/refined.safetensors") for d in ("trained", "run", "picked")
    )
    assert not torch.equal(trained["fc.weight"], picked["fc.weight"])
    assert all(torch.equal(value, own[key]) for key, value in picked.items())
    vector = json.loads(Path("picked/architecture.json").read_text())["vector"]
    assert main(["apply", "run", ",".join(map(str, vector)), "--out", "named", "--trust"]) == 0
    named = load_file("named/refined.safetensors")
    assert all(torch.equal(value, named[key]) for key, value in picked.items())
    capsys.readouterr()
    assert main(["apply", "picked", "1,0", "--trust"]) == 2
    assert "and no search. Name its run" in capsys.readouterr().err
    assert main(["apply", "run", "1,0,7", "--trust"]) == 2
    assert main(["apply", "run", "picked/architecture.json", "--trust"]) == 2
    assert "Name a model to apply" in capsys.readouterr().err
    assert main(["apply", "run", "1,0", "--seed", "2"]) == 2
    assert "--seed is set by the run" in capsys.readouterr().err
    Path("run/checkpoint/search.pt").unlink()
    assert main(["apply", "run", "--pick", f"macs={macs}", "--trust"]) == 2
    assert "no checkpoint of the search" in capsys.readouterr().err


def test_several_seeds_are_reported_together_and_go_on(net, capsys) -> None:
    run = [net, *SMALL, "--epochs", "1", "--seeds", "2", "--seed", "3", "--out", "both"]
    assert main([*run, "--json"]) == 0
    over = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in over["rows"]] == [
        "original after 1 epoch", "refined after 1 epoch", "random search", "best uniform",
    ]  # fmt: skip
    assert all(len(row["scores"]) == 2 for row in over["rows"])
    assert over["comparison"].startswith("Over 2 seeds the search beat")
    single = json.loads(Path("both/seed-4/report.json").read_text())
    assert over["rows"][1]["scores"][1] == single["trained"]["refined"]
    Path("both/seed-4/report.json").unlink()
    assert main(["report", "both"]) == 2
    assert "go on with refine --resume both" in capsys.readouterr().err.lower()
    assert main(["--resume", "both", "--json", "--trust"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == over["rows"]
    assert main(["report", "both"]) == 0
    assert over["comparison"] in capsys.readouterr().out.replace("\n", " ")
    page = Path("both/report.md").read_text()
    assert over["comparison"] in page
    assert "there is no test part. Add one with --test-data, or test_loader= in Python. Set" in page
    assert f"- seed 4: `{','.join(map(str, single['vector']))}`" in page
    assert main(["export", "both"]) == 2
    assert "Name one of its runs, such as both/seed-3" in capsys.readouterr().err
    assert main([*run, "--seeds", "2"]) == 2
    assert "holds" in capsys.readouterr().err
    assert main([net, *SMALL, "--seeds", "1", "--out", "other"]) == 2
    assert "Give 2 or more" in capsys.readouterr().err


def test_test_images_give_the_figures_and_the_report_says_so(net, capsys) -> None:
    fill(Path("images"), "ab", 20)
    fill(Path("unseen"), "ab", 6)
    fill(Path("others"), "bc", 2)
    assert main(["train", net, "--data", "folder:images", "--epochs", "1", "--out", "trained"]) == 0
    run = [
        net,
        "--force",
        "--weights",
        "trained",
        "--data",
        "folder:images",
        "--trials",
        "2",
        "--epochs",
        "1",
    ]
    run += ["--slots", "conv", "--strategy", "random", "--no-baselines", "--device", "cpu"]
    capsys.readouterr()
    assert main([*run, "--test-data", "folder:others", "--out", "other"]) == 2
    assert "it has c, which the data lacks; it lacks a." in capsys.readouterr().err
    assert not Path("other").exists()
    assert main([*run, "--test-data", "folder:unseen", "--out", "run"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "All scores are of the test images, on which nothing was chosen" in out
    assert main(["report", "run"]) == 0
    assert "All scores are of the test images" in " ".join(capsys.readouterr().out.split())
    report = json.loads(Path("run/report.json").read_text())
    assert report["scored_on"] == "test"
    assert dict(report["settings"])["test batches"] == "1"
    scores = [report["original_score"], report["refined_score"], report["trained"]["refined"]]
    assert all(round(12 * score, 6).is_integer() for score in scores), "of 12 test images"
    command = json.loads(Path("run/config.json").read_text())["provenance"]["command"]
    assert command["given"]["test_data"] if "given" in command else command["test_data"]
    assert main(["compare", "run", "trained", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"test accuracy", "test accuracy before fine-tuning"} <= set(rows[0]["scores"])
    assert list(rows[-1]["scores"]) == ["validation accuracy"]
    vector = ",".join("0" for _ in report["vector"])
    assert main(["apply", "run", vector, "--trust", "--out", "picked", "--json"]) == 0
    notes = " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert f"--test-data folder:{Path('unseen').resolve()}" in notes
    assert main([*run, "--out", "plain"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "All scores are of the validation images, on which choices were made, so they" in out


def test_a_run_logs_to_trackers_and_goes_on_with_those_that_are_named(net, capsys) -> None:
    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = [net, *SMALL, "--epochs", "1", "--no-baselines", "--out", "run", "--log", "tensorboard"]
    assert main(run) == 0
    events = tensorboard.EventAccumulator("run/tensorboard")
    events.Reload()
    assert {"search/mean score", "train refined/loss", "refined/MACs"} <= set(
        events.Tags()["scalars"]
    )
    command = json.loads(Path("run/config.json").read_text())["provenance"]["command"]
    assert "log" not in command
    train = ["train", net, "--epochs", "1", "--limit", "128", "--device", "cpu", "--out", "there"]
    assert main([*train, "--log", "tensorboard,tensorboard"]) == 0
    assert list(Path("there/tensorboard").iterdir())
    Path("there/report.json").unlink()
    before = len(list(Path("there/tensorboard").iterdir()))
    assert main(["train", "--resume", "there", net, "--log", "tensorboard"]) == 0
    assert len(list(Path("there/tensorboard").iterdir())) > before
    assert main(["train", "--resume", "there", net]) == 0, "and without them"


@pytest.mark.parametrize("command", [[], ["train"]])
def test_a_tracker_that_is_not_there_is_refused_before_any_work(
    command, net, capsys, monkeypatch
) -> None:
    assert main([*command, net, "--log", "tensorbord", "--out", "run"]) == 2
    assert capsys.readouterr().err == (
        "error: there is no tracker 'tensorbord'. Did you mean tensorboard?\n"
    )
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main([*command, net, "--log", "wandb", "--out", "run"]) == 2
    assert "pip install 'refiner[wandb]'" in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_config_file_sets_what_the_command_line_leaves_open(net, capsys) -> None:
    small = [
        "--search-epochs",
        "1",
        "--samples",
        "2",
        "--limit",
        "128",
        "--device",
        "cpu",
        "--epochs",
        "0",
    ]
    Path("run.yaml").write_text("warmup-epochs: 0\ntrials: 4\nbaselines: no\nschedule: step\n")
    assert main([net, *small, "--trials", "2", "--config", "run.yaml", "--out", "run"]) == 0
    settings = json.loads(Path("run/config.json").read_text())["settings"]
    assert settings["search"]["trials"] == 2
    assert settings["search"]["warmup_epochs"] == 0
    assert (settings["train"]["schedule"], settings["baselines"]) == ("step", False)
    capsys.readouterr()
    assert main(["config", "run"]) == 0
    printed = capsys.readouterr().out
    assert "\ntrials: 2\n" in printed
    assert "\nschedule: step\n" in printed
    assert main(["--resume", "run", "--config", "run.yaml"]) == 2
    assert "--config cannot change in a run that goes on" in capsys.readouterr().err


def test_a_wrong_config_file_is_refused_before_any_work(net, capsys) -> None:
    Path("run.yaml").write_text("trails: 4\n")
    assert main([net, "--config", "run.yaml", "--out", "run"]) == 2
    error = "error: run.yaml: there is no setting 'trails'. Did you mean trials?\n"
    assert capsys.readouterr().err == error
    Path("run.yaml").write_text("model: evil.py:build\n")
    assert main(["--config", "run.yaml", "--out", "run"]) == 2
    assert "model belongs on the command line" in capsys.readouterr().err
    assert not Path("run").exists()
