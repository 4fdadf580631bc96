import json
import statistics
from dataclasses import replace

import pytest
import torch
from models import TinyResNet, images

from refiner.core.errors import RunError
from refiner.cost.deployment import Deployment
from refiner.cost.latency import Conditions, Latency
from refiner.cost.latency_table import LatencyTable
from refiner.cost.slot_latencies import _changes, latency_table
from refiner.runtimes.timing import Patience
from refiner.space.search_space import search_space


def table() -> LatencyTable:
    row = {
        "original": Latency(median=2.0, noise=0.1),
        "depthwise3x3": Latency(median=0.5, noise=0.2),
    }
    return LatencyTable(
        conditions=Conditions(runtime="eager 2", device="a CPU", batch=1, precision="no"),
        model=Latency(median=10.0, noise=0.5),
        slots={f"block{b}.conv{c}": row for b in (1, 2) for c in (1, 2)},
    )


def test_an_architecture_takes_what_the_model_takes_but_for_its_swaps() -> None:
    space = search_space(TinyResNet(), images(), candidates=["depthwise3x3"])
    assert table().predicted(space.architecture((0, 0, 0, 0))) == Latency(median=10.0, noise=0.5)
    swapped = table().predicted(space.architecture((1, 0, 0, 1)))
    assert swapped.median == pytest.approx(10.0 - 2 * 1.5)
    assert swapped.noise == pytest.approx(0.5 + 2 * (0.1 + 0.2))
    assert table().rows(space)[3] == [
        Latency(median=2.0, noise=0.1),
        Latency(median=0.5, noise=0.2),
    ]


def test_the_change_of_a_swap_is_scaled_as_it_counts_in_the_network() -> None:
    space = search_space(TinyResNet(), images(), candidates=["depthwise3x3"])
    scaled = replace(table(), scales={"block1.conv1": 0.5})
    assert scaled.change("block1.conv1", "depthwise3x3") == -1.5
    assert scaled.rows(space)[0][1].median == pytest.approx(2.0 - 0.75)
    assert scaled.predicted(space.architecture((1, 0, 0, 1))).median == pytest.approx(7.75)


def test_a_table_comes_back_from_json_to_the_bit_and_fits_its_space_alone() -> None:
    model, x = TinyResNet(), images(1)
    space = search_space(model, x, candidates=["depthwise3x3"])
    where = Deployment.choose(x, runtime="eager", device=torch.device("cpu"))
    short = Patience(repeats=6, most=6, warm_up=0)
    measured = latency_table(space, model, where, anchors=2, patience=short, whole_patience=short)
    assert LatencyTable.from_json(json.loads(json.dumps(measured.to_json()))) == measured
    assert measured.conditions.batch == 1
    assert measured.conditions.precision == "no"
    assert measured.conditions.runtime == f"eager {torch.__version__}"
    assert len(measured.anchors) == 2
    assert set(measured.scales) == {slot.name for slot in space.slots}
    with pytest.raises(RunError, match="has no entry for 'maxpool3x3'"):
        measured.rows(search_space(model, x))
    large = {"median": 1e308, "noise": 0.0}
    document = measured.to_json()
    damage = ({"slots": []}, {"model": large}, {"scales": {"block1.conv1": 1e300}})
    for damaged in ({}, {"conditions": {}}, *({**document, **each} for each in damage)):
        with pytest.raises(RunError, match=r"latency\.json is damaged"):
            LatencyTable.from_json(damaged)


def slower_than(*pairs: tuple[float, float]) -> bool:
    """Return whether a candidate is called slower that takes these times beside the original's."""
    times = [[pair[k] for pair in pairs] for k in range(2)]
    changes = _changes({"original": times[0], "depthwise3x3": times[1]})
    found = replace(table(), changes={"block1.conv1": changes})
    return found.slower("block1.conv1", "depthwise3x3")


def test_a_candidate_within_the_noise_is_not_slower() -> None:
    wavering = [(1.0 + 0.1 * (i % 5), 1.02 + 0.1 * ((i + 2) % 5)) for i in range(15)]
    assert statistics.median(b for _, b in wavering) > statistics.median(a for a, _ in wavering)
    assert not slower_than(*wavering)
    # A slow phase of the machine that both go through hides nothing.
    drifting = [(1.0 + i, 1.02 + i) for i in range(15)]
    assert slower_than(*drifting)
    assert not slower_than(*((b, a) for a, b in drifting))


def test_too_few_rounds_leave_it_to_the_medians_and_their_noise() -> None:
    assert not slower_than((1.0, 9.0), (1.0, 9.0))  # by the table itself, 0.5 ms of 2.0
    slow = {
        "original": Latency(median=2.0, noise=0.2),
        "depthwise3x3": Latency(median=2.3, noise=0.2),
    }
    within = replace(table(), slots={"a": slow})
    assert not within.slower("a", "depthwise3x3")
    slow["depthwise3x3"] = Latency(median=2.5, noise=0.2)
    assert within.slower("a", "depthwise3x3")
