import pytest
import torch
from models import images

from refiner.core.errors import RunError
from refiner.cost.budget import parse_budgets
from refiner.cost.budget_check import over_budget
from refiner.cost.costs import Cost
from refiner.cost.deployment import Deployment
from refiner.runs import latency_check
from refiner.runs.latency_check import within_latency
from refiner.runs.run_folder import RunFolder
from refiner.search.scoring import Scored
from refiner.search.search import SearchResult
from refiner.training.devices import Devices

CPU = torch.device("cpu")
VECTORS = [(1, 0, 0, 0), (0, 1, 0, 0), (1, 1, 1, 1)]


@pytest.fixture
def checked(monkeypatch):
    """Check three architectures that take so many milliseconds each, where the original takes 10."""

    def check(budget, takes, *, noise=0.1, folder=None):
        waiting = list(takes)

        def timed(networks, *_):
            assert networks == ["original", VECTORS[len(takes) - len(waiting)]]
            ms = waiting.pop(0)
            return [[10.0] * 30, [ms - noise, ms, ms + noise] * 10]

        monkeypatch.setattr(latency_check, "timed_networks", timed)
        top_k = tuple(Scored(vector=v, score=0.9 - i / 10) for i, v in enumerate(VECTORS))
        checked = within_latency(
            SearchResult(best=top_k[0], top_k=top_k), parse_budgets(budget)[0],
            "original", lambda vector: vector, Deployment.choose(images(), device=CPU),
            devices=Devices.choose("cpu"), folder=folder,
        )  # fmt: skip
        assert checked.found.best == checked.found.top_k[0]
        return checked, len(takes) - len(waiting)

    return check


def vectors(checked):
    return [each.vector for each in checked.found.top_k]


def test_the_best_that_keeps_to_it_is_taken_and_no_more_are_measured(checked) -> None:
    first, count = checked("latency=80%", [7.8, 1.0, 1.0])
    assert (vectors(first), first.notes, count) == (VECTORS, (), 1)
    second, count = checked("latency=80%", [8.2, 7.5, 1.0])
    assert (vectors(second), count) == (VECTORS[1:], 2)
    [note] = second.notes
    assert note == "architectures of the top-k measured to exceed latency=80%, left out: 1"


def test_noise_is_included_and_milliseconds_are_as_given(checked) -> None:
    assert vectors(checked("latency=80%", [7.95, 7.8, 1.0])[0]) == VECTORS[1:]
    assert vectors(checked("latency=5ms", [5.0, 4.9, 1.0], noise=0.05)[0]) == VECTORS[1:]


def test_where_none_keeps_within_it_the_nearest_is_left_with_a_note(checked) -> None:
    left, count = checked("latency=5ms", [7.0, 5.5, 6.0])
    assert (vectors(left), count) == ([VECTORS[1]], 3)
    [note] = left.notes
    assert note.startswith("no architecture of the top-k was measured to keep to latency=5ms")


@pytest.mark.parametrize("takes", [[7.8, 1.0, 1.0], [8.2, 7.5, 1.0], [8.2, 8.3, 8.4]])
def test_the_report_shows_this_measurement_and_so_agrees_with_it(checked, takes) -> None:
    after, _ = checked("latency=80%", takes)
    cost, pair = Cost(macs=1, params=1), after.latency
    lines = over_budget(parse_budgets("latency=80%"), cost, cost, (pair.before, pair.after))
    assert (pair.after.median > 8.0) == bool(lines)
    assert bool(lines) == (len(after.found.top_k) == 1 and "no architecture" in after.notes[0])


def test_measurements_are_kept_for_a_run_that_resumes(checked, tmp_path) -> None:
    folder = RunFolder(tmp_path)
    first, _ = checked("latency=80%", [8.2, 7.5, 1.0], folder=folder)
    again, count = checked("latency=80%", [1.0, 1.0, 1.0], folder=folder)
    assert (again, count) == (first, 0)
    for damaged in ({}, {"top_k": []}, {"top_k": [{"vector": [9]}]}):
        folder.write_json("latency_check.json", damaged)
        with pytest.raises(RunError, match=r"latency_check\.json is damaged"):
            checked("latency=80%", [1.0, 1.0, 1.0], folder=folder)


def test_the_noise_is_that_of_the_median(checked, monkeypatch) -> None:
    """Passes waver by a half, both networks together, and their ratio by a tenth in a few rounds."""
    original = [10.0 * (1 + 0.5 * (i % 2)) for i in range(20)]
    taken = [0.8 * ms * (1.1 if i in (3, 7) else 1.0) for i, ms in enumerate(original)]
    monkeypatch.setattr(latency_check, "timed_networks", lambda *_: [original, taken])
    deployment = Deployment.choose(images(), device=CPU)
    measured = latency_check._in_turn(VECTORS[0], deployment, None, None)
    assert measured.pair.before.median == 12.5
    assert (measured.pair.after.median, measured.unsure) == pytest.approx((10.0, 0.0))
