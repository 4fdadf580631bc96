import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import TinyResNet, images

import refiner
from refiner.core.errors import ConfigError
from refiner.cost.budget import Budget, parse_budgets, within_budgets
from refiner.cost.costs import measure_cost
from refiner.cost.latency import Conditions, Latency
from refiner.cost.latency_table import LatencyTable
from refiner.search.strategies import STRATEGIES, make_strategy
from refiner.space.candidates import PAPER_CANDIDATES
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space


def test_budgets_are_read_as_they_are_written() -> None:
    assert parse_budgets("macs=60%") == (Budget(resource="macs", amount=0.6, relative=True),)
    assert parse_budgets(["macs=1.1e9, params = 5e6"]) == (
        Budget(resource="macs", amount=1.1e9, relative=False),
        Budget(resource="params", amount=5e6, relative=False),
    )
    assert parse_budgets(()) == parse_budgets(None) == ()
    assert parse_budgets("latency=5.5ms")[0].limit(0) == 5_500_000
    assert [str(b) for b in parse_budgets("macs=60%,latency=5ms,params=5e6")] == [
        "macs=60%",
        "latency=5ms",
        "params=5000000",
    ]
    assert parse_budgets("latency=80%")[0].most(10.0) == 8.0
    assert parse_budgets("latency=5.5ms")[0].most(10.0) == 5.5
    assert [b.limit(1000) for b in parse_budgets("macs=60%,params=770")] == [600, 770]


@given(st.text(max_size=12))
def test_whatever_is_given_is_a_budget_or_is_refused(text: str) -> None:
    try:
        budgets = parse_budgets(text)
    except ConfigError as error:
        assert "Give" in str(error) or "Choose" in str(error)
    else:
        assert all(budget.amount > 0 for budget in budgets)


def test_a_budget_out_of_reach_is_refused_with_what_is_in_reach() -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x)
    zero = measure_cost(model, x)
    with pytest.raises(ConfigError, match=rf"out of reach.* to {zero.macs:,} MACs \(100.0 %") as e:
        within_budgets(parse_budgets("macs=101"), model, space, x)
    assert str(e.value).startswith("a budget of 101 MACs (0.")


@pytest.mark.parametrize("name", list(STRATEGIES))
@pytest.mark.parametrize("budget", ["macs=60%", "params=50%", "macs=70%,params=60%"])
def test_no_rewritten_model_goes_over_its_budget(name: str, budget: str) -> None:
    model, x = TinyResNet(), images()
    space, budgets = search_space(model, x), parse_budgets(budget)
    space, feasible = within_budgets(budgets, model, space, x)
    before = measure_cost(model, x)
    strategy = make_strategy(name, space.candidates, 0, feasible)
    asked = [] if name == "milp" else strategy.ask(6)  # milp measures what it does not propose
    for vector in {*asked, *strategy.recommend(2)}:
        after = measure_cost(rewrite(model, space.architecture(vector)), x)
        for each in budgets:
            assert getattr(after, each.resource) <= each.limit(getattr(before, each.resource))


def test_without_a_budget_everything_is_within_it() -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x)
    same, feasible = within_budgets((), model, space, x)
    assert same is space
    assert feasible.unlimited
    assert feasible.cost((0,) * len(space.slots)) == [measure_cost(model, x).macs]
    limited = within_budgets(parse_budgets("macs=60%"), model, space, x)[1]
    assert not limited.unlimited


def test_a_latency_budget_offers_no_slower_candidate() -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x, candidates=PAPER_CANDIDATES)
    original, fast, slow, middle = (Latency(median=m, noise=0.0) for m in (2.0, 1.0, 3.0, 1.5))
    row = [original, fast, slow, middle]
    latencies = table(space, [row, [original, slow, slow, slow], row, row])
    smaller, feasible = within_budgets(
        parse_budgets("latency=80%,macs=99%"), model, space, x, latencies
    )
    first, second, _, fourth = space.candidates[0]
    assert smaller.candidates == ((first, second, fourth),) * 3
    assert [slot.name for slot in smaller.slots] == [space.slots[i].name for i in (0, 2, 3)]
    assert smaller.frozen[-1].reason == "no candidate is faster on this device"
    assert feasible.cost((0, 0, 0))[0] == 10_000_000
    assert feasible.cost((1, 2, 0))[0] == 8_500_000
    assert latencies.predicted(smaller.architecture((1, 2, 0))).median == 8.5
    with pytest.raises(ConfigError, match=r"5.00 ms \(50.0 %.*from 7.00 ms"):
        within_budgets(parse_budgets("latency=5ms"), model, space, x, latencies)
    latencies = table(space, [[original, slow, slow, slow]] * 4)
    with pytest.raises(ConfigError, match="no candidate is faster"):
        within_budgets(parse_budgets("latency=90%"), model, space, x, latencies)


def table(space, rows) -> LatencyTable:
    return LatencyTable(
        conditions=Conditions(runtime="eager 2", device="a CPU", batch=1, precision="no"),
        model=Latency(median=10.0, noise=0.1),
        slots={
            slot.name: dict(zip(names, row, strict=True))
            for slot, names, row in zip(space.slots, space.candidates, rows, strict=True)
        },
    )


def test_a_whole_run_keeps_to_its_budget() -> None:
    data = [(images(count=8, seed=i), torch.arange(8) % 2) for i in range(2)]
    result = refiner.refine(
        TinyResNet(),
        data,
        data,
        budget="macs=55%",
        search=refiner.SearchConfig(epochs=1, warmup_epochs=1, trials=3, samples=3),
        progress=False,
    )
    assert result.report.after.macs <= 0.55 * result.report.before.macs
    assert ("budget", "macs=55%") in result.report.settings


def test_a_share_above_the_original_binds_nothing_and_is_refused() -> None:
    with pytest.raises(ConfigError, match="'macs=150%' is more than the original's"):
        parse_budgets("macs=150%")
    assert parse_budgets("macs=100%")[0].amount == 1


def test_a_slot_with_a_single_faster_candidate_keeps_it() -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x, candidates=PAPER_CANDIDATES)
    original, fast, slow = (Latency(median=m, noise=0.0) for m in (2.0, 1.0, 3.0))
    latencies = table(space, [[original, fast, slow, slow], *[[original, fast, fast, fast]] * 3])
    kept, feasible = within_budgets(parse_budgets("latency=90%"), model, space, x, latencies)
    assert kept.candidates[0] == space.candidates[0][:2]
    assert feasible.cost((1, 0, 0, 0)).tolist() == [9_000_000]
    assert feasible.cost((1, 1, 2, 3)).tolist() == [6_000_000]
