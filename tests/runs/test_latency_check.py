import pytest
import torch
from models import images

from refiner.core.errors import RunError
from refiner.cost.budget import parse_budgets
from refiner.cost.deployment import Deployment
from refiner.cost.latency import Latency
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

        def measured(_deployment, model, network):
            assert [model, network] == ["original", VECTORS[len(takes) - len(waiting)]]
            return [Latency(median=10.0, noise=0.1), Latency(median=waiting.pop(0), noise=noise)]

        monkeypatch.setattr(latency_check, "in_turn", measured)
        top_k = tuple(Scored(vector=v, score=0.9 - i / 10) for i, v in enumerate(VECTORS))
        found, notes = within_latency(
            SearchResult(best=top_k[0], top_k=top_k), parse_budgets(budget)[0],
            "original", lambda vector: vector, None, devices=Devices.choose("cpu"), folder=folder,
        )  # fmt: skip
        assert found.best == found.top_k[0]
        return [f.vector for f in found.top_k], notes, len(takes) - len(waiting)

    return check


def test_the_best_that_keeps_to_it_is_taken_and_no_more_are_measured(checked) -> None:
    assert checked("latency=80%", [7.8, 1.0, 1.0]) == (VECTORS, [], 1)
    left, [note], count = checked("latency=80%", [8.2, 7.5, 1.0])
    assert (left, count) == (VECTORS[1:], 2)
    assert note.startswith("the refined model takes 7.50 ± 0.10 ms as measured; latency=80%")
    assert note.endswith("of the top-k over the budget, left out: 1")


def test_noise_is_included_and_milliseconds_are_as_given(checked) -> None:
    assert checked("latency=80%", [7.95, 7.8, 1.0])[0] == VECTORS[1:]
    assert checked("latency=5ms", [5.0, 4.9, 1.0], noise=0.05)[0] == VECTORS[1:]


def test_where_none_keeps_within_it_the_nearest_is_left_with_a_note(checked) -> None:
    left, [note], count = checked("latency=5ms", [7.0, 5.5, 6.0])
    assert (left, count) == ([VECTORS[1]], 3)
    assert note.startswith(
        "no architecture of the top-k keeps within the budget: the nearest takes 5.5"
    )


def test_measurements_are_kept_for_a_run_that_resumes(checked, tmp_path) -> None:
    folder = RunFolder(tmp_path)
    first = checked("latency=80%", [8.2, 7.5, 1.0], folder=folder)
    again = checked("latency=80%", [1.0, 1.0, 1.0], folder=folder)
    assert again[:2] == first[:2]
    assert again[2] == 0
    for damaged in ({}, {"top_k": []}, {"top_k": [{"vector": [9]}]}):
        folder.write_json("latency_check.json", damaged)
        with pytest.raises(RunError, match=r"latency_check\.json is damaged"):
            checked("latency=80%", [1.0, 1.0, 1.0], folder=folder)


def test_the_noise_is_that_of_the_median(monkeypatch) -> None:
    """Passes waver by a half, both networks together, and their ratio by a tenth in a few rounds."""
    original = [10.0 * (1 + 0.5 * (i % 2)) for i in range(20)]
    taken = [0.8 * ms * (1.1 if i in (3, 7) else 1.0) for i, ms in enumerate(original)]
    monkeypatch.setattr(latency_check, "timed_networks", lambda *_: [original, taken])
    before, after = latency_check.in_turn(Deployment.choose(images(), device=CPU), None, None)
    assert before.median == 12.5
    assert (after.median, after.noise) == pytest.approx((10.0, 0.0))
