"""A run that is stopped at any moment ends with the bits that it would have had."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models import TinyResNet, batches
from safetensors.torch import load_file

import refiner
from refiner.core.progress import Silent
from refiner.runs.run_folder import RunFolder

PHASES = ("distillation", "search", "top-k", "random baseline", "uniform baseline", "train original",
          "train refined", "train random", "train uniform")  # fmt: skip


def run(out: Path, *, resume: bool = False, progress: object = False) -> None:
    torch.manual_seed(3)
    refiner.refine(
        TinyResNet(), batches(3), batches(2, seed=1), distill=refiner.DistillConfig(steps=2, solve_batches=1),
        search=refiner.SearchConfig(
            epochs=2, warmup_epochs=0, train_weights=False, trials=4, samples=2, top_k=1, front=1,
            recalibration_batches=1,
        ),
        strategy="controller", train=refiner.TrainConfig(epochs=2, teacher_weight=0.5), device="cpu",
        out=out, resume=resume, progress=progress,
    )  # fmt: skip


def final(out: Path) -> tuple[dict[str, bytes], dict[str, object], str, str]:
    """Return what a run leaves, without the milliseconds that it took."""
    weights = {k: v.numpy().tobytes() for k, v in load_file(out / "refined.safetensors").items()}
    report = json.loads((out / "report.json").read_text())
    kept = {key: value for key, value in report.items() if not key.startswith("latenc")}
    return (
        weights,
        kept,
        (out / "architecture.json").read_text(),
        (out / "metrics.jsonl").read_text(),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    run(out)
    return out


class StopsIn(Silent):
    """Stops in a phase, after some of its steps."""

    def __init__(self, phase: str, steps: int) -> None:
        self.phase, self.left, self.now = phase, steps, ""

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        self.now = phase

    def advance(self, steps: int = 1, **values: float | str) -> None:
        if self.now == self.phase:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


@pytest.mark.parametrize("phase", PHASES)
def test_stopped_in_any_phase(phase: str, whole, tmp_path) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(out, progress=StopsIn(phase, 1))
    run(out, resume=True)
    assert final(out) == final(whole)


def stopping(write: Callable[..., None], moments: list[int], after: bool) -> Callable[..., None]:
    """Return a function that stops the run before or after one of its writes."""

    def stopped(*arguments: object) -> None:
        moments[0] -= 1
        if moments[0] == 0 and not after:
            raise KeyboardInterrupt
        write(*arguments)
        if moments[0] == 0:
            raise KeyboardInterrupt

    return stopped


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_stopped_at_writes_all_along(after: bool, whole, tmp_path, monkeypatch) -> None:
    moment, finished = 2, False  # the first write makes the folder
    while not finished:
        out = tmp_path / f"run-{moment}"
        left = [moment]
        with monkeypatch.context() as patch:
            patch.setattr("refiner.core.files.os.replace", stopping(os.replace, left, after))
            try:
                run(out)
                finished = True
            except KeyboardInterrupt:
                pass
        if not finished and not (out / "report.json").exists():
            run(out, resume=True)
            assert final(out) == final(whole), moment
        moment += 6
    assert moment > 25


def test_the_random_search_goes_on_from_its_last_epoch(whole, tmp_path, monkeypatch) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(out, progress=StopsIn("random baseline", 2))  # two trials an epoch
    kept = RunFolder.open(out).load_checkpoint("random_search")
    assert kept is not None
    assert kept["epoch"] == 1
    seen = []

    class Watches(Silent):
        def begin(self, phase: str, total: int, done: int = 0) -> None:
            seen.append((phase, done))

    run(out, resume=True, progress=Watches())
    assert ("random baseline", 2) in seen
    assert not any(phase == "search" for phase, _ in seen), "the search had ended"
    assert final(out) == final(whole)
