"""Why a trained network may score badly on data: another scale, other norms, another class order.

Each cause is tried on copies, on the same images. It is named only where the score rises greatly
with it, by more than chance allows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from refiner.core.surgery import copied
from refiner.core.types import Batch
from refiner.runs.chance import GAIN, at_chance, chance_of, rises
from refiner.runs.look import Look, look_at
from refiner.runs.scales import NORMS, other_scales
from refiner.training.devices import Devices
from refiner.training.evaluation import recalibrate
from refiner.training.task import Task

LEAST_IMAGES = 100
"""Images from which a score says enough to stop a run."""
_OTHERS = 20
"""Images of other classes from which it says something that a network names one class alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What causes are tried on."""

    network: nn.Module
    """A copy of the original, on the device."""
    task: Task
    devices: Devices
    batches: Sequence[Batch]
    """Validation batches."""
    norm_batches: Sequence[Batch]
    """Training batches, for BN recalibration."""
    look: Look
    """At the network as given."""
    preprocessing: Mapping[str, Any]
    """Known mean and std of the inputs; may be empty."""
    new_head: bool
    """Whether the network has published weights, and a head for these classes."""


def likely_cause(trial: Trial) -> str | None:
    """Return why the network may score badly, with the next step; None where nothing is found."""
    look = trial.look
    if look.images < LEAST_IMAGES:
        return None
    if chance_of(trial.task, look) is not None and look.score > 1 - GAIN:
        return None
    for find in (_other_data, _constant, _near_chance, _one_class):
        cause = find(trial)
        if cause is not None:
            return cause
    return None


def _scored(trial: Trial, look: Look) -> str:
    return f"{trial.task.metric} {look.score:.4g}"


def _other_data(trial: Trial) -> str | None:
    """Try another scale, recalibrated norms and another order, and return what helps most.

    Of two that help about as much, the first is named.
    """
    best: tuple[float, str] | None = None
    for find in (_other_scale, _other_norms, _other_order):
        found = find(trial)
        if found is not None and (best is None or found[0] >= best[0] + GAIN / 2):
            best = found
    return None if best is None else best[1]


def _other_scale(trial: Trial) -> tuple[float, str] | None:
    """Try the same images on other scales; return the best score and what it means."""
    look = trial.look
    if look.scale is None or len(look.scale.shape) != 3:
        return None
    best: tuple[float, str, Look] | None = None
    for form, change in other_scales(look.scale, trial.preprocessing).items():
        again = look_at(trial.network, trial.batches, trial.task, trial.devices, change)
        if rises(trial.task, look, again) and (best is None or again.score > best[0]):
            best = again.score, form, again
    if best is None:
        return None
    norm = NORMS.get(best[1])
    return best[0], (
        f"the same images {best[1]} give {_scored(trial, best[2])}, so the network seems to want "
        f"them so. Load them that way{f' (--norm {norm} on the command line)' if norm else ''}"
    )


def _other_norms(trial: Trial) -> tuple[float, str] | None:
    """Try BN recalibration; return the score and what it means."""
    norms = [
        module
        for module in trial.network.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
    ]
    if not norms or not trial.norm_batches:
        return None
    again = copied(trial.network)
    recalibrate(again, trial.norm_batches, trial.task, trial.devices)
    look = look_at(again, trial.batches, trial.task, trial.devices)
    if not rises(trial.task, trial.look, look):
        return None
    return look.score, (
        f"BN recalibration on these images gives {_scored(trial, look)}, so the network was "
        "trained on images of another scale or normalisation. Load them as in its training "
        "(--mean and --std on the command line)"
    )


def _other_order(trial: Trial) -> tuple[float, str] | None:
    """Try another order of the classes, found on one half of the images, on the other half."""
    look = trial.look
    labels, guesses = look.labels, look.predictions
    if labels is None or guesses is None:
        return None
    known = (labels >= 0) & (labels < look.classes)
    labels, guesses = labels[known], guesses[known]
    if len(labels) < LEAST_IMAGES:
        return None
    half = torch.arange(len(labels)) % 2 == 0
    # Only classes that occur: of many thousands a table would not fit into memory.
    classes, places = torch.cat([guesses, labels]).unique(return_inverse=True)
    guessed, labelled = places.chunk(2)
    confusion = torch.zeros(len(classes), len(classes))
    confusion.index_put_((guessed[half], labelled[half]), torch.ones(()), accumulate=True)
    order = torch.as_tensor(linear_sum_assignment(confusion.numpy(), maximize=True)[1])
    of_guess = torch.arange(look.classes)
    of_guess[classes] = classes[order]
    now = float((guesses == labels)[~half].float().mean())
    then = float((of_guess[guesses] == labels)[~half].float().mean())
    most = float(torch.bincount(labels[~half]).max() / (~half).sum())
    if then < 0.5 or then < now + 0.3 or then < most + GAIN:
        return None
    how = _named_order(of_guess, labels)
    return then, (
        f"the classes seem to be in another order: {how} the accuracy is {then:.4g}. Sort the "
        "labels as in the network's training"
    )


def _named_order(of_guess: torch.Tensor, labels: torch.Tensor) -> str:
    shown = [int(c) for c in labels.unique()]
    guess_of = {int(label): guess for guess, label in enumerate(of_guess)}
    shifts = {guess_of[c] - c for c in shown}
    if len(shifts) == 1:
        return f"with {shifts.pop():+d} added to each label"
    moved = [c for c in shown if guess_of[c] != c][:3]
    pairs = ", ".join(f"{c} as {guess_of[c]}" for c in moved)
    return f"with the labels renamed ({pairs}, ...)"


def _constant(trial: Trial) -> str | None:
    if not trial.look.constant:
        return None
    return (
        "it gives the same output for every image, so its weights or its inputs are of no use. "
        "Look at --weights and at the scale of the inputs"
    )


def _one_class(trial: Trial) -> str | None:
    """Return what a network does that names one class for every image, of several."""
    labels, guesses = trial.look.labels, trial.look.predictions
    if labels is None or guesses is None or len(guesses.unique()) > 1:
        return None
    others = int((labels != guesses[0]).sum())
    if others < _OTHERS or others == len(labels):
        return None
    return (
        f"it names class {int(guesses[0])} for every image, and {others} of {len(labels)} are of "
        "other classes, so it is no better than a guess. Give the weights that were trained on "
        "such data"
    )


def _near_chance(trial: Trial) -> str | None:
    if not at_chance(trial.task, trial.look):
        return None
    if trial.new_head:
        return (
            "that is near chance: published weights come without a head for these classes. Train "
            "it first (`refine train MODEL --pretrained --data DATA --out DIR`), then refine with "
            "--weights DIR"
        )
    return (
        "that is near chance: its weights are untrained, or of other classes or other images. "
        "Give the weights that were trained on such data"
    )
