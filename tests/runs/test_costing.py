import pytest
import torch
from models import TinyResNet, batches, images
from small_detectors import batch, small

import refiner
from refiner.core.errors import ConfigError
from refiner.runs.costing import cost_space, space_of_run
from refiner.runs.job import Output, set_up
from refiner.runs.settings import Settings
from refiner.training.devices import Devices


def costed(budget=()):
    torch.manual_seed(0)
    job = set_up(
        TinyResNet(), batches(1), batches(1), task="classification", example_input=None, seed=0,
        devices=Devices.choose("cpu"), output=Output(progress=False),
    )  # fmt: skip
    space = refiner.search_space(job.model, job.example)
    return cost_space(job, Settings.of({"budget": budget}), space)


def test_without_a_budget_everything_is_feasible() -> None:
    found = costed()
    assert found.limited is None
    assert found.latencies is None
    assert found.latency_budget is None


def test_a_budget_leaves_what_keeps_to_it() -> None:
    found = costed("macs=70%")
    assert found.limited is not None
    assert not found.limited.holds((0,) * len(found.space.slots))
    limit = 0.7 * refiner.measure_cost(TinyResNet(), images()).macs
    zero = list((0,) * len(found.space.slots))
    for slot, names in enumerate(found.space.candidates):
        for k in range(len(names)):
            vector = (*zero[:slot], k, *zero[slot + 1 :])
            network = refiner.rewrite(TinyResNet(), found.space.architecture(vector))
            cheap = refiner.measure_cost(network, images()).macs <= limit
            assert found.limited.holds(vector) == cheap


def test_what_is_out_of_reach_is_refused() -> None:
    with pytest.raises(ConfigError, match="out of reach"):
        costed("macs=1%")


def test_what_no_score_depends_on_stays() -> None:
    """A mask head has convs that would be slots."""
    job = set_up(
        small("maskrcnn"), [batch()], [batch()], task="detection", example_input=None, seed=0,
        devices=Devices.choose("cpu"), output=Output(progress=False),
    )  # fmt: skip
    only = ["backbone.second", "roi_heads.mask_head"]
    space, notes = space_of_run(job, Settings.of({"slots": "conv", "only": only}))
    assert {slot.name.split(".")[1] for slot in space.slots} == {"second"}
    assert notes == (
        "nothing that is scored depends on roi_heads.mask_head, roi_heads.mask_predictor, which "
        "stays as it is",
    )
