"""``refine eval``, and the first line of a run on the command line."""

import json
from pathlib import Path

import pytest
import torch
from refiner.cli.app import main
from safetensors.torch import save_model

NET = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SIZE = 200
UNIT = 0.25 * torch.rand(SIZE, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(SIZE) % 3
UNIT[torch.arange(SIZE), LABELS] += 0.5


class Inside(nn.Module):
    '''Normalises by itself, and takes 0 to 255.'''

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.more = nn.Conv2d(3, 3, 3, padding=1)
        with torch.no_grad():
            for conv in (self.conv, self.more):
                conv.weight.zero_()
                conv.bias.zero_()
                conv.weight[:, :, 1, 1] = torch.eye(3)
            self.conv.bias.copy_(torch.tensor([0.0, 0.2, 0.4]))

    def forward(self, x):
        return self.more(self.conv(x / 255 - 0.5)).mean((2, 3))


def model():
    return Inside()


def right():
    loader = DataLoader(TensorDataset(255 * UNIT, LABELS), 50)
    return loader, loader


def tested():
    return (*right(), right()[0])


def unlabelled():
    loader = right()[0]
    return [x for x, _ in loader], loader


def numbers():
    loader = DataLoader(TensorDataset(255 * UNIT, torch.eye(3)[LABELS]), 50)
    return loader, loader, loader


class Headed(nn.Module):
    '''Compares the output of a head of its own, which is not trained.'''

    metric = "negative error"

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3)

    def loss(self, model, batch):
        return (self.head(model(batch[0])) - batch[1]).square().mean()

    def measure(self, model, batch):
        return torch.stack([-self.loss(model, batch), torch.ones(())])

    def score(self, sums):
        return float(sums[0] / sums[1])


def wrong():
    loader = DataLoader(TensorDataset(UNIT, LABELS), 50)
    return loader, loader
"""


@pytest.fixture
def net(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return "net.py:model"


def test_a_model_is_evaluated_on_data_of_the_right_and_the_wrong_scale(net, capsys) -> None:
    assert main(["eval", net, "--data", "net.py:right"]) == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith("The network as given: accuracy 1.0000 on 200 validation images; 3 cla")
    assert "\n" not in line
    assert main(["eval", net, "--data", "net.py:wrong"]) == 0
    out = capsys.readouterr().out
    assert "But the same images scaled from 0 to 255 give accuracy 1, so" in out
    assert main(["eval", net, "--data", "net.py:wrong", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["classes"] == 3
    assert facts["images"] == 200
    assert facts["input"]["shape"] == [3, 8, 8]
    assert "scaled from 0 to 255" in facts["cause"]


RUN = ["--distill", "--epochs", "0", "--trials", "4", "--no-baselines", "--slots", "conv",
       "--device", "cpu", "--out", "run"]  # fmt: skip


def test_a_run_on_the_wrong_scale_stops_with_the_cause_and_force_goes_on(net, capsys) -> None:
    command = [net, "--data", "net.py:wrong", *RUN, "--candidates", "depthwise3x3"]
    assert main(command) == 2
    (last,) = [li for li in capsys.readouterr().err.splitlines() if li.startswith("error: ")]
    assert "the same images scaled from 0 to 255 give accuracy 1" in last
    assert "(--force, force=True)" in last
    assert not Path("run").exists()
    assert main([*command, "--force"]) == 0
    assert "The first look would have stopped this run" in Path("run/report.md").read_text()


def test_a_folder_is_evaluated_with_its_data_where_its_code_may_run(net, capsys) -> None:
    command = [net, "--data", "net.py:right", *RUN, "--candidates", "depthwise3x3"]
    assert main(command) == 0
    capsys.readouterr()
    assert main(["eval", "run"]) == 2
    assert "asks to run code of its own" in capsys.readouterr().err
    assert main(["eval", "run", "--trust", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["images"] == 200
    named = ["eval", "run", "--model", net, "--data", "net.py:wrong", "--json"]
    assert main(named) == 0
    other = json.loads(capsys.readouterr().out)
    assert other["input"]["largest"] < 1 < facts["input"]["largest"]
    tested = ["eval", "run", "--trust", "--test-data", "net.py:tested", "--json"]
    assert main(tested) == 0
    assert json.loads(capsys.readouterr().out)["parts"].keys() == {"test"}
    assert main(["eval", "run", "--weights", "x.pt", "--trust"]) == 2
    assert "is set by the run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "task", "line", "parts"),
    [
        ("unlabelled", "classification", "accuracy 1.0000 on 200 validation images; 3 cla", set()),
        ("numbers", "regression", "on 200 validation images; inputs 3x8x8", {"test"}),
        ("numbers", "net.py:Headed", "negative error -", set()),
    ],
)
def test_data_without_class_labels_is_evaluated(net, capsys, data, task, line, parts) -> None:
    command = ["eval", net, "--data", f"net.py:{data}", "--task", task, "--device", "cpu"]
    assert main(command) == 0
    assert line in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["classes"] == (3 if task == "classification" else None)
    assert set(facts["parts"]) == parts


def test_trust_goes_with_a_folder(net, capsys) -> None:
    assert main(["eval", net, "--trust"]) == 2
    assert "go with a run's folder" in capsys.readouterr().err
    assert main(["eval", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_weights_are_loaded(net, capsys) -> None:
    scope: dict = {}
    exec(NET, scope)
    model = scope["model"]()
    with torch.no_grad():
        model.conv.bias.fill_(float("nan"))
    save_model(model, "w.safetensors")
    assert main(["eval", net, "--data", "net.py:right", "--weights", "w.safetensors"]) == 2
    assert "outputs that are NaN" in capsys.readouterr().err
