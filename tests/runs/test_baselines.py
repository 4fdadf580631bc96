import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import TinyResNet, searched

import refiner
from refiner.core.progress import Silent
from refiner.cost.feasible import FeasibleSet
from refiner.runs.baselines import evenly, score_baselines, uniform_vectors
from refiner.runs.comparison import Baseline
from refiner.runs.report import Report
from refiner.runs.report_data import Trained
from refiner.search.pareto import front_from_json
from refiner.search.random_search import RandomStrategy
from refiner.search.search import Search

NAMES = (("conv", "deep", "pool"), ("conv", "pool"), ("conv", "deep", "pool"), ("conv", "deep"))
SEARCH = refiner.SearchConfig(epochs=1, warmup_epochs=1, trials=2, samples=2, top_k=2)


def images(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(8, 3, 8, 8, generator=generator), torch.randint(10, (8,), generator=generator))
        for _ in range(count)
    ]


def test_one_operation_everywhere_it_is_offered() -> None:
    assert uniform_vectors(NAMES) == {
        "deep in 3 of 4 slots": (1, 0, 1, 1),
        "pool in 3 of 4 slots": (2, 1, 2, 0),
    }


def test_under_a_budget_as_few_slots_as_keep_to_it() -> None:
    costs = [[[10], [4], [1]], [[10], [1]], [[10], [4], [1]], [[10], [4]]]
    # deep: 6 less for each of slots 0, 2, 3; pool: 9 less for each of 0, 1, 2.
    kept = uniform_vectors(NAMES, FeasibleSet(costs, [0], [28]))
    assert kept == {"deep in 2 of 4 slots": (1, 0, 0, 1), "pool in 2 of 4 slots": (2, 0, 2, 0)}
    kept = uniform_vectors(NAMES, FeasibleSet(costs, [0], [20]))
    assert kept == {"pool in 3 of 4 slots": (2, 1, 2, 0)}, "three deep convs cost 22"


def test_a_slot_without_a_keep_ratio_takes_the_nearest() -> None:
    names = (
        ("original", "keep0.75", "keep0.25", "no_branch"),
        ("original", "keep0.8", "keep0.6", "keep0.4", "keep0.2", "pool"),
        ("original", "pool"),
        ("original", "keep0.5"),
    )
    assert uniform_vectors(names) == {
        "no_branch in 1 of 4 slots": (3, 0, 0, 0),
        "pool in 2 of 4 slots": (0, 5, 1, 0),
        "keep0.8 in 3 of 4 slots": (1, 1, 0, 1),
        "keep0.6 in 3 of 4 slots": (1, 2, 0, 1),
        "keep0.4 in 3 of 4 slots": (2, 3, 0, 1),
        "keep0.2 in 3 of 4 slots": (2, 4, 0, 1),
    }


@given(st.integers(1, 30), st.data())
def test_places_are_spread_evenly(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, size))
    chosen = evenly(range(size), count)
    assert len(set(chosen)) == count
    assert count == 0 or abs(chosen[0] - (size - 1 - chosen[-1])) <= 1, "both ends alike"
    gaps = [b - a for a, b in itertools.pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_a_report_holds_baselines_within_the_budget(tmp_path: Path) -> None:
    result = refiner.refine(
        TinyResNet(), images(3), images(2), budget="macs=70%", search=SEARCH,
        train=refiner.TrainConfig(epochs=1), device="cpu", progress=False, out=tmp_path / "run",
    )  # fmt: skip
    report = result.report
    assert [c.kind for c in report.baselines] == ["random", "uniform"]
    assert report.trained is not None
    for baseline in report.baselines:
        assert baseline.trained is not None
        assert baseline.macs <= 0.7 * report.before.macs
        rewritten = refiner.rewrite(
            TinyResNet(),
            refiner.search_space(TinyResNet(), images(1)[0][0]).architecture(baseline.vector),
        )
        assert refiner.measure_cost(rewritten, torch.zeros(1, 3, 8, 8)).macs == baseline.macs
    assert (report.comparison() or "").startswith("In this one run the search came out ahead of ")
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert Report.from_json(written).baselines == report.baselines
    page = (tmp_path / "run" / "report.md").read_text()
    assert "## Baselines" in page
    assert str(report.comparison()) in page


def test_baselines_neither_change_the_search_nor_what_it_leaves() -> None:
    def run(baselines: bool) -> refiner.Result:
        torch.manual_seed(1)
        return refiner.refine(
            TinyResNet(), images(3), images(2), search=SEARCH, baselines=baselines, device="cpu",
            progress=False,
        )  # fmt: skip

    plain, held = run(False), run(True)
    assert plain.report.baselines == ()
    assert plain.report.comparison() is None
    assert plain.search == held.search
    for key, value in plain.model.state_dict().items():
        assert torch.equal(value, held.model.state_dict()[key]), key
    assert [c.trained for c in held.report.baselines] == [None, None]
    assert "validation accuracy before fine-tuning" in (held.report.comparison() or "")


def test_a_random_search_has_no_random_baseline() -> None:
    result = refiner.refine(
        TinyResNet(), images(2), images(1), search=SEARCH, strategy="random", device="cpu",
        progress=False,
    )  # fmt: skip
    assert [c.kind for c in result.report.baselines] == ["uniform"]


def test_a_run_that_goes_on_keeps_its_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(resume: bool) -> refiner.Result:
        torch.manual_seed(1)
        return refiner.refine(
            TinyResNet(), images(2), images(1), search=SEARCH, train=refiner.TrainConfig(epochs=1),
            device="cpu", progress=False, out=tmp_path / "run", resume=resume,
        )  # fmt: skip

    first = run(False)
    monkeypatch.setattr(
        "refiner.runs.baselines.score_baselines", lambda *_: pytest.fail("scored again")
    )
    again = run(True)
    assert again.report.baselines == first.report.baselines


def test_the_front_holds_baselines_and_they_keep_the_norms_they_were_scored_with(
    tmp_path: Path,
) -> None:
    torch.manual_seed(2)
    model = TinyResNet()
    result = refiner.refine(
        model, images(3), images(2), distill=refiner.DistillConfig(steps=3),
        search=refiner.SearchConfig(
            epochs=1, warmup_epochs=0, train_weights=False, trials=2, samples=2, top_k=1, front=0
        ),
        device="cpu", progress=False, out=tmp_path / "run",
    )  # fmt: skip
    points, *_ = front_from_json(json.loads((tmp_path / "run" / "pareto.json").read_text()))
    scored = {f.vector: f.objective for f in result.search.top_k}
    scored |= {c.vector: c.agreement for c in result.report.baselines}
    assert {p.vector: p.score for p in points}.items() <= scored.items()
    best = max(scored.values())
    assert any(p.score == best for p in points)
    kept = torch.load(tmp_path / "run" / "checkpoint" / "search.pt", weights_only=True)["norms"]
    assert {c.vector for c in result.report.baselines} <= {tuple(vector) for vector, _ in kept}


def test_a_baseline_that_came_out_ahead_is_told_with_how_to_take_it() -> None:
    best = Baseline(
        kind="uniform", name="all identity", vector=(1, 0), macs=1, params=1, search_score=0.6
    )
    less = replace(best, kind="random", name="random search", vector=(0, 1), search_score=0.5)
    zero = refiner.Cost(macs=1, params=1, thop_macs=None, uncounted=(), notes=())
    report = Report(
        vector=(0, 0), before=zero, after=zero, slots=(), frozen=(), search_score=0.55,
        baselines=(less, best),
    )  # fmt: skip
    told = "To take it instead: refine apply DIR 1,0 (DIR is this run's folder)."
    assert (report.baseline_ahead() or "").startswith("All identity is ahead in score")
    assert (report.baseline_ahead() or "").endswith(told)
    assert told in report.to_markdown()
    assert replace(report, search_score=0.6).baseline_ahead() is None
    trained = Trained(epochs=1, original=0.7, refined=0.8)
    assert replace(report, trained=trained).baseline_ahead() is None
    ahead = replace(report, trained=trained, baselines=(replace(less, trained=0.9), best))
    assert "Random search is ahead in validation score, 0.9000 against 0.8000" in (
        ahead.baseline_ahead() or ""
    )


def test_all_that_random_search_tries_keeps_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, ...]] = []
    learn = RandomStrategy.tell

    def note(strategy: RandomStrategy, vectors, scores) -> None:
        tried.extend(vectors)
        learn(strategy, vectors, scores)

    monkeypatch.setattr(RandomStrategy, "tell", note)
    *_, search, _ = searched(budget=("macs=40%",), distill=refiner.DistillConfig(steps=1))
    score_baselines(search, Silent())
    assert len(tried) == search.trials + search.informing.evaluations
    assert search.informing.evaluations == max(map(len, search.supernet.candidates)) + 2
    assert search.feasible is not None
    assert all(search.feasible.holds(vector) for vector in tried)


def test_the_random_search_goes_by_the_original_s_own_statistics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    *_, search, _ = searched(budget=("macs=40%",), distill=refiner.DistillConfig(steps=1))
    made = []

    class Kept(Search):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr("refiner.runs.baselines.Search", Kept)
    monkeypatch.setattr("refiner.search.scoring.NormShift", lambda _: pytest.fail("read again"))
    score_baselines(search, Silent())
    zero = (0,) * len(search.supernet.candidates)
    data = search.scorer.norm_batches()
    assert made[0].scorer.reward_of(zero, data, data) == pytest.approx(0, abs=1e-5)
