"""The methods: each takes the ground and a share of the MACs, and returns an untuned network.

What of this tool is measured goes through ``refiner.refine`` without fine-tuning, with its defaults.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

import refiner
from peers.ground import Ground
from peers.networks import ResNet, drawn_resnet
from peers.other_tools import fastnas, torch_pruning
from peers.uniform import UniformWidth
from refiner.distill.distillation import DistillConfig
from refiner.space.candidates import PAPER_CANDIDATES
from refiner.training.loop import TrainConfig

Made = tuple[nn.Module, dict[str, Any]]
"""A network, and what else to record of it."""


def original(at: Ground, _share: int) -> Made:
    return at.copy(), {}


def refined(at: Ground, share: int, strategy: Any, *, evaluated: bool = True) -> Made:
    """Refine the original by a strategy; without evaluations its first proposal is taken.

    A run that was stopped goes on. Its record then holds the seconds of its last part alone.
    """
    search = at.mode.search
    if not evaluated:
        search = replace(search, trials=1, epochs=1, samples=1, top_k=1)
    elif (
        at.ablated == "top_k"
    ):  # the best by the search's scores, without a look at what a refit leaves
        search = replace(search, top_k=1)
    name = strategy if isinstance(strategy, str) else strategy.__name__
    folder = at.out / "runs" / f"{at.name}-{at.seed}-{share}-{name}-{search.trials}"
    resume = (folder / "config.json").exists()
    result = refiner.refine(
        at.model, at.parts.train, at.parts.held, task=at.task, example_input=at.example.cpu(),
        progress=False, out=folder, resume=resume, budget=f"{at.resource}={share}%", strategy=strategy, baselines=False,
        runtime="onnxruntime" if at.resource == "latency" else "auto", seed=at.seed, device=at.devices.device.type, precision=at.devices.precision,
        **{"distill": DistillConfig(), "search": search, **ablated(at.ablated)},
    )  # fmt: skip
    taken = {"vector": list(result.architecture.vector), "agreement": result.report.agreement}
    return result.model, {**taken, "resumed": resume}


ABLATIONS = ("fits", "refit", "space", "top_k")
"""Parts that can be left out of the methods that are this tool's."""


def ablated(part: str | None) -> dict[str, Any]:
    """Return the settings of :func:`refiner.refine` that leave a part out; none for no part."""
    if part == "fits":  # the rows of a few batches, however many weights they have to fit
        return {"distill": DistillConfig(rows_per_feature=1, solve_batches=8, most_batches=8)}
    if part == "refit":
        return {"refit": refiner.RefitConfig(steps=0)}
    if part == "space":  # eighths of the channels, and every branch stays
        eighths = (f"keep{count / 8:g}" for count in range(7, 1, -1))
        return {"candidates": (*eighths, *PAPER_CANDIDATES)}
    return {}


def narrow(at: Ground, share: int) -> Made:
    """Train the same network with fewer channels from scratch, all in one proportion."""
    assert isinstance(at.model, ResNet)
    assert at.mode.scratch is not None
    limit, depth = share / 100 * at.macs(at.model), int(at.name.removeprefix("resnet"))
    for sixteenths in range(16 * 16, 0, -1):  # steps of a sixteenth of a channel in the first stage
        channels = tuple(max(1, round(sixteenths / 256 * width)) for width in (16, 32, 64))
        network = drawn_resnet(depth, channels, at.seed).to(at.devices.device)
        if at.macs(network) <= limit:
            break
    config = TrainConfig(epochs=at.mode.scratch, lr_max=0.1, schedule="cosine")
    at.tune(network, config, at.task, at.out / "made" / f"{at.name}-{at.seed}-{share}-narrow.kept")
    return network, {}


METHODS: dict[str, Callable[[Ground, int], Made]] = {
    "original": original,
    "milp": lambda at, share: refined(at, share, "milp"),
    "controller": lambda at, share: refined(at, share, "controller"),
    "informed_controller": lambda at, share: refined(at, share, "informed_controller"),
    "random": lambda at, share: refined(at, share, "random"),
    "single_draw": lambda at, share: refined(at, share, "random", evaluated=False),
    "uniform": lambda at, share: refined(at, share, UniformWidth, evaluated=False),
    "torch_pruning": torch_pruning,
    "fastnas": fastnas,
    "narrow": narrow,
}
OURS: Sequence[str] = ("milp", "controller", "informed_controller")
"""Searches of this tool; the table takes the best of them as "ours"."""
EXTRA: Sequence[str] = ("fastnas", "narrow")
"""Methods that run where they are asked for alone: in an environment of their own, or on a GPU."""
