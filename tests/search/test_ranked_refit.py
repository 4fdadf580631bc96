"""Tried in tests/search/test_scoring.py; here is what searches that are compared share."""

import torch
from models import TinyResNet, batches

import refiner
from refiner.distill.front_to_back import FrontToBack
from refiner.search.ranked_refit import RankedRefit


def test_the_random_baseline_ranks_as_the_search_did_and_a_note_says_so(monkeypatch) -> None:
    made: list[RankedRefit] = []
    tried: list[int] = []

    class NoFit(FrontToBack):
        def fit(self, network):
            tried.append(1)
            with torch.no_grad():
                network.fc.weight.zero_()
            return {}

    def kept(fit, forget) -> RankedRefit:
        made.append(RankedRefit(fit, forget=forget))
        return made[-1]

    monkeypatch.setattr("refiner.runs.searching.FrontToBack", NoFit)
    monkeypatch.setattr("refiner.runs.searching.RankedRefit", kept)
    torch.manual_seed(3)
    result = refiner.refine(
        TinyResNet(), batches(3), batches(2, seed=1), distill=refiner.DistillConfig(steps=0),
        search=refiner.SearchConfig(
            epochs=1, warmup_epochs=0, train_weights=False, trials=12, samples=4, top_k=3
        ),
        budget="macs=75%", strategy="milp", device="cpu", progress=False,
    )  # fmt: skip
    assert [each.pays for each in made] == [False]
    assert len(tried) == 1
    assert any("without least squares" in note for note in result.report.notes)
