"""Layer-wise distillation: every candidate is fitted to the layer that it may replace.

The original model, the supernet's zero vector, runs in eval mode on training batches. At each conv
of a slot, all candidates get the input of the conv and are fitted to its output (``fitting.py``).
A merged conv gets what it reads in its place: the input of its group, passed on through what lies
between the convs. Channel prunings are fitted per channel group (``group_fitting.py``), with their
gates (``gate_fit.py``), constants in place of branches in ``constant_fit.py``. One pass serves all
slots and candidates, unless their sums would take more memory than ``sum_table.MOST_BYTES``.

Batches of many or large images are read in pieces, and each piece counts as a batch here. Every
fifth is held out from the closed forms: it chooses their ridges and gives their errors.
One pass of the loader is the most that they read, so that no image is on both sides.

Source: Molchanov et al., LANA: Latency Aware Network Acceleration, 2021 (arXiv 2107.10624), 3.1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from refiner.core.errors import ConfigError, TrainingError
from refiner.core.progress import Progress, Silent
from refiner.core.types import Loader
from refiner.distill.candidate_fit import CandidateFit
from refiner.distill.constant_fit import branch_means_to_fit, fit_branch_means
from refiner.distill.fitting import ConvFit
from refiner.distill.gate_fit import gates_to_fit
from refiner.distill.group_fitting import (
    InnerChannels,
    fill_prunings,
    has_batch_norm,
    inner_channels_to_fit,
)
from refiner.distill.original import Listener, Original
from refiner.distill.patches import RowSums
from refiner.distill.sum_table import SumTable
from refiner.space.candidates import Candidate, WholeSlot, get_candidate
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import Task
from refiner.training.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig:
    """How the candidates are fitted."""

    steps: int = 200
    """Steps of Adam, one training batch each, for candidates without a closed form. There are none
    where closed forms fit all, as they do the default candidates."""
    learning_rate: float = 0.003
    """Learning rate of Adam at the start; it falls to zero along a cosine."""
    rows_per_feature: int = 30
    """Rows of a closed form, which are positions of the conv's output, for each weight of an
    output; where the batches have fewer, all are taken."""
    solve_batches: int = 8
    """Training batches over which the rows are spread. A conv takes more batches where these have
    too few rows."""
    most_batches: int = 64
    """Most training batches for the closed forms; one pass of the loader is the most in any case.
    Every fifth is held out, and chooses the ridges."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"steps is {self.steps}. Give 0 or more.")
        for name in ("rows_per_feature", "solve_batches", "most_batches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}. Give 1 or more.")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}. Give more than 0.")


def distill(
    supernet: Supernet,
    loader: Loader,
    task: Task,
    *,
    devices: Devices,
    config: DistillConfig | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    usage: Usage | None = None,
) -> dict[str, dict[str, float]]:
    """Fit all candidates of a supernet in place, and return the error of each.

    The originals and their norms stay as they are. So the zero vector equals the original model to
    the bit, before and after.

    Args:
        supernet: is moved to the device; its candidates are fitted in place.
        loader: training batches, as :meth:`Devices.loader` returned them.
        task: calls the model on a batch; labels are not used.
        devices: where to compute.
        config: how to fit.
        seed: fixes the order of the data and the augmentation.
        progress: listener.
        usage: counts the images; a step of Adam counts as one backward pass.

    Returns:
        For each conv, the error of each candidate by name: the squared error over the variance of
        the conv's output, on batches held out from the closed forms.

    Raises:
        TrainingError: an error is not finite.
    """
    fitted = fit_candidates(
        supernet,
        loader,
        task,
        devices=devices,
        config=config or DistillConfig(),
        seed=seed,
        progress=progress or Silent(),
        usage=Usage() if usage is None else usage,
    )
    return fitted.errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What came of fitting: for each conv, the error of each candidate by name."""

    errors: dict[str, dict[str, float]]
    """On batches held out from the closed forms."""
    fit_errors: dict[str, dict[str, float]]
    """On the batches of the closed forms, where there is one."""


def fit_candidates(
    supernet: Supernet,
    loader: Loader,
    task: Task,
    *,
    devices: Devices,
    config: DistillConfig,
    seed: int,
    progress: Progress,
    usage: Usage,
) -> Fitted:
    """Do what :func:`distill` does, and return the errors on both kinds of batches."""
    supernet.to(devices.device).eval()
    supernet.select((0,) * len(supernet.candidates))
    original = Original(supernet=supernet, loader=loader, task=task, devices=devices, seed=seed)
    rows = -(-config.rows_per_feature // devices.processes)
    table = SumTable(rows_per_feature=rows, batches=config.solve_batches, seed=seed)
    fits = _conv_fits(supernet, table)
    inner = inner_channels_to_fit(supernet, table)
    means = branch_means_to_fit(supernet)
    learned = any(fit.parameters() for fit in fits)
    progress.begin("distillation", len(table) + config.steps * learned)
    with usage.counting(supernet.model):
        closed: list[CandidateFit | InnerChannels] = [*inner]
        closed += [each for fit in fits for each in fit.fits.values()]
        for part in table.parts():
            _solve(original, part, closed, config, progress)
        pruning_errors = fill_prunings(supernet, inner)
        gates = gates_to_fit(supernet, inner)
        if means or gates:
            listeners = [*(each.listener for each in means), *(each.listener for each in gates)]
            original.run(listeners, config.solve_batches, after_batch=lambda: None)
        for gate in gates:
            gate.solve(devices)
        if learned and config.steps:
            before = usage.forward
            _learn(original, fits, config, progress)
            usage.backward += usage.forward - before
            again = [each for fit in fits for each in fit.fits.values() if each.parameters()]
            for part in table.parts():
                needed = [sums for sums in part if any(each.sums is sums for each in again)]
                if needed:
                    _solve(original, needed, again, config, Silent())
        original.measure([(f.name, f.measure) for f in fits if f.is_measured], config.solve_batches)
    progress.end()
    found = {fit.name: fit.errors(devices) for fit in fits}
    fitted = {fit.name: {n: each.fit_error for n, each in fit.fits.items()} for fit in fits}
    for name, row in pruning_errors.items():
        found[name] = {n: held_out for n, (held_out, _) in row.items()} | found[name]
        fitted[name] = {n: fit for n, (_, fit) in row.items()} | fitted[name]
    for name, errors in fit_branch_means(means, devices).items():
        found[name] |= errors
    _check_finite(found)
    return Fitted(errors=found, fit_errors=fitted)


def _conv_fits(supernet: Supernet, table: SumTable) -> list[ConvFit]:
    """Return the fits of all convs of all slots, without those of channel prunings."""
    fits = []
    for slot, names in zip(supernet.space.slots, supernet.candidates, strict=True):
        kinds = {name: get_candidate(name) for name in names[1:]}
        single = {name for name, kind in kinds.items() if isinstance(kind, Candidate)}
        merged = {n for n, kind in kinds.items() if isinstance(kind, WholeSlot) and kind.is_merged}
        for site in slot.sites:
            conv, *others = supernet.mixed(site.conv).operations
            fitted = single | merged if site is slot.sites[-1] else single
            operations = {
                name: other
                for name, other in zip(names[1:], others, strict=True)
                if other is not conv and name in fitted
            }
            centred = has_batch_norm(supernet, site)
            fits.append(ConvFit(site.conv, conv, operations, table, centred=centred, merged=merged))
    return fits


def _solve(
    original: Original,
    part: Sequence[RowSums[object]],
    fits: Sequence[CandidateFit | InnerChannels],
    config: DistillConfig,
    progress: Progress,
) -> None:
    """Read some sums, and solve the closed forms that need them, one conv at a time."""
    original.read(part, config.most_batches)
    for sums in part:
        for fit in fits:
            if fit.sums is sums:
                fit.solve(original.devices)
        sums.clear()
        progress.advance(1)


def _learn(
    original: Original, fits: Sequence[ConvFit], config: DistillConfig, progress: Progress
) -> None:
    """Run the steps of Adam."""
    parameters = [parameter for fit in fits for parameter in fit.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)

    def step() -> None:
        original.devices.average_gradients(original.supernet)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        progress.advance(1)

    listeners: list[Listener] = [(f.name, f.add_gradients) for f in fits if f.parameters()]
    original.run(listeners, config.steps, after_batch=step)


def _check_finite(errors: dict[str, dict[str, float]]) -> None:
    """Raise a TrainingError where an error is infinite or not a number."""
    bad = [
        f"{op} of {name}"
        for name, row in errors.items()
        for op, error in row.items()
        if not math.isfinite(error)
    ]
    if bad:
        raise TrainingError(f"the error of {bad[0]} is not finite. Lower the learning rate.")
