import itertools

import pytest
import torch
from models import TinyResNet, batches

import refiner
from refiner.core.errors import RefinerError
from refiner.training.task import Classification


class Kept:
    """Keeps what a run shows, and stops it where asked."""

    def __init__(self, stop_at: str | None = None, after: int = 0) -> None:
        self.stop_at, self.after = stop_at, after
        self.phases: list[str] = []
        self.steps: dict[str, int] = {}
        self.notes: list[str] = []

    def plan(self, phases) -> None:
        self.planned = list(phases)

    def begin(self, phase, total, done=0) -> None:
        self.phases.append(phase)

    def advance(self, steps, **values) -> None:
        phase = self.phases[-1]
        self.steps[phase] = self.steps.get(phase, 0) + steps
        if phase == self.stop_at and self.steps[phase] > self.after:
            raise KeyboardInterrupt

    def end(self) -> None:
        pass

    def note(self, text) -> None:
        self.notes.append(text)


def refined(steps: int, **options):
    torch.manual_seed(3)
    settings = {
        "distill": refiner.DistillConfig(steps=0, solve_batches=1),
        "refit": refiner.RefitConfig(steps=steps),
        "search": refiner.SearchConfig(
            epochs=1, warmup_epochs=0, train_weights=False, trials=4, samples=2, top_k=1
        ),
        "budget": "macs=75%", "strategy": "random", "device": "cpu", "progress": False, **options,
    }  # fmt: skip
    return refiner.refine(TinyResNet(), batches(3), batches(2, seed=1), **settings)


def test_the_chosen_network_and_the_baselines_are_refitted(tmp_path, monkeypatch) -> None:
    scores = itertools.count()  # all parts stay
    monkeypatch.setattr(
        "refiner.runs.refitting.evaluate_both", lambda *_: [(float(next(scores)), 0.0)]
    )
    shown = Kept()
    result = refined(3, progress=shown, out=tmp_path / "run", strategy="milp", seed=1)
    assert "refit" in shown.planned
    names = {
        each.kind for each in result.report.baselines if each.vector != result.architecture.vector
    }
    assert shown.steps["refit"] == 3 * (1 + len(names))
    torch.manual_seed(3)
    assert not torch.equal(TinyResNet().fc.weight, result.model.fc.weight)
    plain = refined(0, strategy="milp")
    assert ("refit.steps", "3") in result.report.settings
    assert not any(name.startswith("refit.") for name, _ in plain.report.settings)


def test_a_stopped_refit_goes_on_to_the_same_bits(tmp_path) -> None:
    whole = refined(40, strategy="milp")
    for after in (0, 45):  # in the first network, and in the second
        out = tmp_path / str(after)
        with pytest.raises(KeyboardInterrupt):
            refined(40, strategy="milp", out=out, progress=Kept("refit", after))
        again = refined(40, strategy="milp", out=out, resume=True)
        ours, theirs = whole.model.state_dict(), again.model.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_network_whose_refit_is_done_is_not_refitted_again(tmp_path, monkeypatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        refined(21, strategy="milp", out=tmp_path, progress=Kept("refit", 22))  # in the second
    steps: list[int] = []
    monkeypatch.setattr(
        "refiner.runs.refitting.refit", lambda *_, config, **__: steps.append(config.steps) or ()
    )
    shown = Kept()
    refined(21, strategy="milp", out=tmp_path, resume=True, progress=shown)
    kept = {path.stem for path in (tmp_path / "checkpoint").glob("*_refitted.pt")}
    assert len(steps) == len(kept) - 1
    assert shown.steps["refit"] == 21


def test_a_run_goes_on_with_as_many_steps_alone(tmp_path) -> None:
    refined(2, out=tmp_path / "run")
    with pytest.raises(RefinerError, match="refit"):
        refined(3, out=tmp_path / "run", resume=True)


def test_outputs_that_cannot_be_compared_leave_it_out() -> None:
    class Counted(Classification):
        """Calls no network in its loss or its measure that a teacher could be compared on."""

        def measure(self, model, batch):
            return super().measure(model.forward, batch)

    shown = Kept()
    refined(2, task=Counted(), progress=shown)
    assert any("was not refitted" in note for note in shown.notes)
    assert "refit" not in shown.phases


def test_parts_that_validation_images_are_none_the_better_for_are_undone(
    tmp_path, monkeypatch
) -> None:
    def spoiled(network, *_):
        with torch.no_grad():
            network.fc.weight.zero_()

    fit = "refiner.distill.front_to_back.FrontToBack.fit"
    monkeypatch.setattr(fit, lambda _, network: spoiled(network))
    monkeypatch.setattr("refiner.distill.refit._take_steps", spoiled)
    shown = Kept()
    result = refined(5, progress=shown, strategy="milp", out=tmp_path / "run")
    assert result.model.fc.weight.any()
    undone = [note for note in result.report.notes if "was undone" in note]
    assert len(undone) == 2
    again = refined(5, strategy="milp", out=tmp_path / "run", resume=True)
    assert again.report.notes == result.report.notes
