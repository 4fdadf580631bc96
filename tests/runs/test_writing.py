import json
import time

import pytest
import torch
import torch.nn.functional as F
from models import TinyResNet, batches, searched
from torch import nn

import refiner
from refiner.core.progress import Silent
from refiner.runs.fine_tuning import fine_tune
from refiner.runs.job import in_folder
from refiner.runs.selection import select
from refiner.runs.writing import finish
from refiner.runtimes.timing import timed_networks


def test_a_result_is_what_was_written(tmp_path) -> None:
    job, settings, costed, search, found = searched(out=tmp_path / "run")
    with in_folder(job, settings.to_json(costed.space)) as job:
        selection = select(job, settings, costed, search, found, [])
    trained, baselines = fine_tune(job, settings.train, selection)
    result = finish(job, settings, costed, selection, trained, baselines)
    assert not result.model.training
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert tuple(report["vector"]) == result.architecture.vector == found.best.vector
    front = json.loads((tmp_path / "run" / "pareto.json").read_text())
    assert front["original"]["macs"] == report["before"]["macs"]


class Costlier(TinyResNet):
    """Multiplies more where a conv of its was replaced, which no prediction sees."""

    def forward(self, x):
        convs = (b.get_submodule(c) for b in (self.block1, self.block2) for c in ("conv1", "conv2"))
        if any(type(conv) is not nn.Conv2d for conv in convs):
            F.conv2d(x, torch.ones(64, 3, 3, 3))
        return super().forward(x)


class Spoken(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(("budget", "over"), [("macs=60%", True), ("params=60%", False)])
def test_what_is_emitted_is_measured_against_the_budget_and_a_miss_is_told(budget, over) -> None:
    torch.manual_seed(0)
    shown = Spoken()
    result = refiner.refine(
        Costlier(), batches(1), batches(1), budget=budget, strategy="random", baselines=False,
        candidates=("depthwise3x3",), progress=shown,
        search=refiner.SearchConfig(epochs=1, warmup_epochs=0, trials=2, samples=2, top_k=1, front=0),
    )  # fmt: skip
    told = [note for note in result.report.notes if note.startswith("over the budget")]
    assert result.report.after.macs > result.report.before.macs
    assert bool(told) == over
    assert set(told) <= set(shown.notes)


def test_a_budget_that_does_not_cover_everything_is_told_at_the_start_and_in_the_report() -> None:
    class Spectral(TinyResNet):
        def forward(self, x):
            return super().forward(torch.fft.ifft2(torch.fft.fft2(x)).real)

    shown = Spoken()
    result = refiner.refine(
        Spectral(), batches(1), batches(1), budget="macs=80%", strategy="random", baselines=False,
        progress=shown,
        search=refiner.SearchConfig(epochs=1, warmup_epochs=0, trials=2, samples=2, top_k=1, front=0),
    )  # fmt: skip
    [line] = [note for note in shown.notes if "nobody counts" in note]
    assert line in result.report.notes
    assert any(note.startswith("not counted, though") for note in result.report.notes)
    assert "_fft_c2c" in result.report.to_markdown()


class Slow(nn.Conv2d):
    def forward(self, x):
        time.sleep(0.005)
        return super().forward(x)


def test_the_batch_that_is_timed_is_the_one_that_was_asked_for(monkeypatch) -> None:
    timed = []

    def noted(networks, batch, runtime):
        timed.append(len(batch))
        return timed_networks(networks, batch, runtime)

    monkeypatch.setattr("refiner.runs.latency_check.timed_networks", noted)
    model = TinyResNet()
    model.block1.conv1 = Slow(4, 4, 3, padding=1, bias=False)  # what replaces it is faster
    result = refiner.refine(
        model, batches(1), batches(1), budget="latency=99%", latency_batch=3,
        runtime="eager",
        strategy="random", baselines=False, candidates=("avgpool3x3",), progress=False,
        search=refiner.SearchConfig(epochs=1, warmup_epochs=0, trials=1, samples=1, top_k=1, front=0),
    )  # fmt: skip
    assert [each.conditions.batch for each in result.report.latencies] == [3, 3]
    assert timed == [3], "of the top-k"
    assert any("batch 3" in note for note in result.report.notes if "predicted" in note)
    assert dict(result.report.settings)["latency_batch"] == "3"
