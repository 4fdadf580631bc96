"""Layer-wise distillation: every candidate is fitted to the layer that it may replace.

The original model, the supernet's zero vector, runs in eval mode on training batches. At each conv
of a slot, all candidates get the input of the conv and are fitted to its output (``fitting.py``).
Channel prunings are fitted per channel group (``group_fitting.py``). One pass serves all slots and
candidates.

Source: Molchanov et al., LANA: Latency Aware Network Acceleration, 2021 (arXiv 2107.10624), 3.1.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from refiner.core.errors import ConfigError, TrainingError
from refiner.core.progress import Progress, Silent
from refiner.core.randomness import derive_seed, seeded
from refiner.core.types import Batch, Loader
from refiner.data.loaders import generators_of
from refiner.distill.fitting import ConvFit
from refiner.distill.group_fitting import fit_prunings, has_batch_norm, inner_channels_to_fit
from refiner.space.candidates import ChannelPruning, get_candidate
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.evaluation import checked, length
from refiner.training.task import Task, run_network
from refiner.training.usage import Usage

Listener = tuple[str, Callable[[torch.Tensor, torch.Tensor], None]]
"""Name of a conv, and a function that gets its input and output after each call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig:
    """How the candidates are fitted."""

    steps: int = 200
    """Steps of Adam, one training batch each."""
    learning_rate: float = 0.003
    """Learning rate of Adam at the start; it falls to zero along a cosine."""
    solve_batches: int = 8
    """Training batches for each closed-form solution, before the steps of Adam and after them."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"steps is {self.steps}. Give 0 or more.")
        if self.solve_batches < 1:
            raise ConfigError(f"solve_batches is {self.solve_batches}. Give 1 or more.")
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
        the conv's output, on the last batches.

    Raises:
        TrainingError: an error is not finite.
    """
    config, progress = config or DistillConfig(), progress or Silent()
    usage = Usage() if usage is None else usage
    supernet.to(devices.device).eval()
    supernet.select((0,) * len(supernet.candidates))
    original = _Original(supernet=supernet, loader=loader, task=task, devices=devices, seed=seed)
    fits = _conv_fits(supernet)
    inner = inner_channels_to_fit(supernet, seed)
    steps = config.steps if any(fit.parameters() for fit in fits) else 0
    sums: list[Listener] = [(fit.name, fit.accumulate) for fit in fits]
    group_sums: list[Listener] = [(each.site.conv, each.accumulate) for each in inner]
    progress.begin("distillation", len(inner) + steps)
    with usage.counting(supernet.model):
        original.run([*sums, *group_sums], config.solve_batches, epoch=0)
        _solve(fits, devices)
        pruning_errors = fit_prunings(supernet, inner, devices, progress)
        if steps:
            before = usage.forward
            _learn(original, fits, config, progress)
            usage.backward += usage.forward - before
            original.run(sums, config.solve_batches, epoch=2)
            _solve(fits, devices)
        original.run([(fit.name, fit.measure) for fit in fits], config.solve_batches, epoch=3)
    progress.end()
    errors = {fit.name: pruning_errors.get(fit.name, {}) | fit.errors(devices) for fit in fits}
    _check_finite(errors)
    return errors


def _conv_fits(supernet: Supernet) -> list[ConvFit]:
    """Return the fits of all convs of all slots, without those of channel prunings."""
    fits = []
    for slot, names in zip(supernet.space.slots, supernet.candidates, strict=True):
        for site in slot.sites:
            conv, *others = supernet.mixed(site.conv).operations
            operations = {
                name: other
                for name, other in zip(names[1:], others, strict=True)
                if other is not conv and not isinstance(get_candidate(name), ChannelPruning)
            }
            centred = has_batch_norm(supernet, site)
            fits.append(ConvFit(site.conv, conv, operations, centred=centred))
    return fits


def _solve(fits: Sequence[ConvFit], devices: Devices) -> None:
    for fit in fits:
        fit.solve(devices)


def _learn(
    original: "_Original", fits: Sequence[ConvFit], config: DistillConfig, progress: Progress
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

    listeners: list[Listener] = [(fit.name, fit.add_gradients) for fit in fits]
    original.run(listeners, config.steps, epoch=1, after_batch=step)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Original:
    """The original model in a supernet, and the training batches that it runs on."""

    supernet: Supernet
    loader: Loader
    task: Task
    devices: Devices
    seed: int

    def run(
        self,
        listeners: Sequence[Listener],
        batches: int,
        *,
        epoch: int,
        after_batch: Callable[[], None] = lambda: None,
    ) -> None:
        """Run the model on training batches.

        Args:
            listeners: get the inputs and outputs of convs.
            batches: how many batches, over several passes where the loader has fewer.
            epoch: number of this run, which seeds the order of the data.
            after_batch: is called after each batch.
        """
        seed, generators = derive_seed(self.seed, "distil", epoch), generators_of(self.loader)
        with seeded(seed, generators), _listening(self.supernet, listeners):
            for batch in itertools.islice(_endless(self.devices, self.loader), batches):
                with torch.no_grad(), self.devices.autocast():
                    checked(partial(run_network, self.task), self.supernet.model, batch)
                after_batch()


def _endless(devices: Devices, loader: Loader) -> Iterator[Batch]:
    """Yield batches on the device, pass after pass."""
    length(loader)
    while True:
        yield from devices.batches(loader)


@contextmanager
def _listening(supernet: Supernet, listeners: Sequence[Listener]) -> Iterator[None]:
    """Call each listener after each call of its conv."""
    hooks = [
        supernet.mixed(name).register_forward_hook(_hook(listen)) for name, listen in listeners
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hook(
    listen: Callable[[torch.Tensor, torch.Tensor], None],
) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
    """Return a forward hook that passes the input and the output on, without their graph."""

    def hook(_conv: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        listen(inputs[0].detach(), output.detach())

    return hook
