from functools import partial

import pytest
import torch
from models import TinyResNet, anchored_as_predicted, images

from refiner.core.errors import ModelError, RunError
from refiner.cost.budget import parse_budgets, within_budgets
from refiner.cost.deployment import Deployment
from refiner.cost.latency import Latency
from refiner.cost.latency_table import LatencyTable
from refiner.cost.whole_latencies import with_anchors
from refiner.runs import latency_limit
from refiner.runs.latency_limit import MARGIN, LatencyLimit
from refiner.runs.run_folder import RunFolder
from refiner.space.candidates import ORIGINAL
from refiner.space.search_space import search_space
from refiner.training.devices import Devices


@pytest.fixture(scope="module")
def measured():
    """Each slot takes 2 of 10 ms, and half of that with any other candidate."""
    torch.manual_seed(0)
    model, x = TinyResNet().eval(), images()
    space = search_space(model, x)
    where = Deployment.choose(x, runtime="eager", device=torch.device("cpu"), threads=1)
    slots = {
        slot.name: {name: Latency(median=2.0 if name == ORIGINAL else 1.0, noise=0.0) for name in names}
        for slot, names in zip(space.slots, space.candidates, strict=True)
    }  # fmt: skip
    table = LatencyTable(
        conditions=where.conditions, model=Latency(median=10.0, noise=0.0), slots=slots
    )
    return model, x, space, where, table


def limit_of(
    measured, monkeypatch, factor: float, budget: str = "latency=0.9", folder=None
) -> LatencyLimit:
    """Return a limit by which networks take so many times what is predicted."""
    model, x, space, where, table = measured
    (parsed,) = parse_budgets(budget)
    space, feasible = within_budgets([parsed], model, space, x, table)

    anchored = partial(anchored_as_predicted, factor=factor)
    monkeypatch.setattr(latency_limit, "anchored", anchored)
    devices = Devices.choose("cpu")
    return LatencyLimit(parsed, 0, table, space, feasible, model, where, devices, folder)


def test_a_run_that_goes_on_knows_what_was_measured(measured, monkeypatch, tmp_path) -> None:
    folder, vectors = RunFolder(tmp_path), [(0,) * 4, (1,) * 4]
    first = limit_of(measured, monkeypatch, 1.2, folder=folder)
    plain = latency_limit.anchored

    def scaled(*args):
        table = plain(*args)
        return with_anchors(table, table.anchors)

    monkeypatch.setattr(latency_limit, "anchored", scaled)
    first.within(vectors)
    again = limit_of(measured, monkeypatch, 5.0, folder=folder)
    assert again.used == pytest.approx(first.used)
    assert again.within(vectors) == first.within(vectors)  # without another measurement
    assert again.table.scales == pytest.approx(first.table.scales)
    assert again.feasible.cost(vectors[0]) == pytest.approx(first.feasible.cost(vectors[0]))
    for damaged in ({}, {"used": [[[0], 1.0]]}, {"used": [[[9] * 4, 1.0]]}, {"used": 3}):
        folder.write_json("latency_measured.json", damaged)
        with pytest.raises(RunError, match=r"latency_measured\.json is damaged"):
            limit_of(measured, monkeypatch, 1.2, folder=folder)


def test_what_is_measured_over_the_budget_is_left_out_and_corrects_the_set(
    measured, monkeypatch
) -> None:
    limit = limit_of(measured, monkeypatch, 1.2)
    zero, cheap = (0,) * 4, (1,) * 4
    margin = 9.0 * MARGIN
    assert limit.feasible.cost(zero)[0] == pytest.approx((10 + margin) * 1e6)
    assert limit.within([zero, cheap, zero]) == [cheap]
    allowed = 9.0 * (1 - MARGIN)
    assert [limit.used[zero], limit.used[cheap]] == pytest.approx([12 / allowed, 7.2 / allowed])
    # The predictions were 2 and 1.2 ms too low.
    assert limit.feasible.cost(zero)[0] == pytest.approx((11.6 + margin) * 1e6)
    assert limit.feasible.cost(cheap)[0] == pytest.approx((7.6 + margin) * 1e6)
    assert len(limit.table.anchors) == 2
    limit.within([cheap])
    assert len(limit.table.anchors) == 2  # each is measured once


def test_a_little_of_the_budget_is_kept_free(measured, monkeypatch) -> None:
    for factor, kept in ((0.9 * (1 - MARGIN) * 0.999, True), (0.9 * (1 - MARGIN) * 1.001, False)):
        limit = limit_of(measured, monkeypatch, factor)
        zero = (0,) * 4
        assert limit.within([zero]) == ([zero] if kept else [])


def test_a_set_that_would_be_empty_is_not_taken(measured, monkeypatch) -> None:
    limit = limit_of(measured, monkeypatch, 50.0)
    before = limit.feasible
    assert limit.within([(0,) * 4]) == []
    assert limit.feasible is before


def test_what_the_runtime_cannot_hold_does_not_keep_to_the_budget(
    measured, monkeypatch, tmp_path
) -> None:
    folder = RunFolder(tmp_path)
    limit = limit_of(measured, monkeypatch, 0.5, folder=folder)
    plain, bad = latency_limit.anchored, (0, 0, 0, 1)

    def anchored(table, space, vectors, model, deployment):
        if bad in vectors:
            raise ModelError("no")
        return plain(table, space, vectors, model, deployment)

    monkeypatch.setattr(latency_limit, "anchored", anchored)
    assert limit.within([(0,) * 4, bad, (1,) * 4]) == [(0,) * 4, (1,) * 4]
    assert limit.used[bad] == float("inf")
    assert limit.within([bad]) == []
    again = limit_of(measured, monkeypatch, 0.5, folder=folder)
    assert again.within([bad]) == []  # it is not measured once more
    assert again.used == pytest.approx(limit.used)


def test_whole_networks_are_timed_in_the_runtime(measured) -> None:
    model, x, space, where, table = measured
    (budget,) = parse_budgets("latency=50ms")
    space, feasible = within_budgets([budget], model, space, x, table)
    limit = LatencyLimit(budget, 0, table, space, feasible, model, where, Devices.choose("cpu"))
    zero = (0,) * 4
    assert limit.within([zero]) == [zero]
    assert 0.1 < limit.used[zero] < 0.4
