"""Layer-wise distillation: each candidate learns what the original gives for what the original is given.

The model runs as it came, the supernet's zero vector, in eval mode, and at each conv of a slot all its
candidates see the conv's input and are drawn to its output (fitting.py), or the channels that it can do without are
found (link_fitting.py): one pass serves all slots and candidates.

Source: Molchanov et al., LANA: Latency Aware Network Acceleration, 2021 (arXiv 2107.10624), section 3.1.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from refiner.core.errors import ConfigError, TrainingError
from refiner.core.progress import Progress, Silent
from refiner.core.randomness import derive_seed, seeded
from refiner.data.loaders import generators_of
from refiner.distill.fitting import Place
from refiner.distill.group_fitting import fit_prunings, links_to_fit
from refiner.space.candidates import ChannelPruning, get_candidate
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.evaluation import checked, length
from refiner.training.task import Task
from refiner.training.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig:
    """How long and how the candidates learn."""

    steps: int = 200
    """Of Adam, a training batch each."""
    learning_rate: float = 0.003
    """Adam's, falling to zero along a cosine."""
    solve_batches: int = 8
    """Training batches from which the pointwise convs are solved, before the steps and after them."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"steps is {self.steps}. Give 0 or more.")
        if self.solve_batches < 1:
            raise ConfigError(f"solve_batches is {self.solve_batches}. Give 1 or more.")
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}. Give more than 0.")


def distill(
    supernet: Supernet,
    loader: Any,
    task: Task,
    *,
    devices: Devices,
    config: DistillConfig | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    usage: Usage | None = None,
) -> dict[str, dict[str, float]]:
    """Warm all candidates of a supernet up, and return how far each is from its original.

    The originals and their norms stay as they are, so the zero vector gives the model as it came, to the
    bit, before and after.

    Args:
        supernet: is moved to the device; its candidates are trained in place.
        loader: training batches, as :meth:`Devices.loader` returned them.
        task: tells how a batch is given to the model; labels are not used.
        devices: where.
        config: how long and how.
        seed: fixes order and augmentation.
        progress: listener.
        usage: to which the images are added; a step of the candidates counts as one backward pass.

    Returns:
        Of each conv, by the names of its candidates, the squared error over the variance that was met in
        the last batches.

    Raises:
        TrainingError: an error is not finite.
    """
    config, progress = config or DistillConfig(), progress or Silent()
    usage = Usage() if usage is None else usage
    supernet.to(devices.device).eval()
    supernet.select((0,) * len(supernet.candidates))
    centred, places = {}, []
    for slot, names in zip(supernet.space.slots, supernet.candidates, strict=True):
        for site in slot.sites:
            conv, *others = supernet.mixed(site.conv).operations
            operations = {
                name: other
                for name, other in zip(names[1:], others, strict=True)
                if other is not conv and not isinstance(get_candidate(name), ChannelPruning)
            }
            centred[site.conv] = _is_batch_norm(supernet, site.norm)
            places.append(Place(site.conv, conv, operations, centred[site.conv]))
    links = links_to_fit(supernet, centred, seed)
    learned = [p for place in places for p in place.learned()]

    def run(listeners: Sequence[_Listener], count: int, epoch: int) -> Iterator[None]:
        with (
            seeded(derive_seed(seed, "distil", epoch), generators_of(loader)),
            _listening(supernet, listeners),
        ):
            for batch in itertools.islice(_endless(devices, loader), count):
                with torch.no_grad(), devices.autocast():
                    checked(task.measure, supernet.model, batch)
                yield

    def solve(epoch: int, *others: _Listener) -> None:
        summing: list[_Listener] = [(place.name, place.accumulate) for place in places]
        for _ in run([*summing, *others], config.solve_batches, epoch):
            pass
        for place in places:
            place.solve(devices)

    progress.begin("distil", len(links) + (config.steps if learned else 0))
    with usage.counting(supernet.model):
        solve(0, *((link.site.conv, link.accumulate) for link in links))
        pruning_errors = fit_prunings(supernet, links, devices, progress)
        if learned and config.steps:
            optimizer = torch.optim.Adam(learned, lr=config.learning_rate)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
            before = usage.forward
            for _ in run([(place.name, place.descend) for place in places], config.steps, 1):
                devices.average_gradients(supernet)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                progress.advance(1)
            usage.backward += usage.forward - before
            solve(2)
        for _ in run([(place.name, place.measure) for place in places], config.solve_batches, 3):
            pass
    progress.end()
    errors = {
        place.name: {**pruning_errors.get(place.name, {}), **place.errors(devices)}
        for place in places
    }
    bad = [f"{op} of {name}" for name, row in errors.items() for op, e in row.items() if e != e]
    if bad:
        raise TrainingError(f"the error of {bad[0]} is not finite. Lower the learning rate.")
    return errors


_Listener = tuple[str, Callable[[torch.Tensor, torch.Tensor], None]]
"""Name of a conv, and what is told of its input and output whenever it has run."""


def _is_batch_norm(supernet: Supernet, norm: str | None) -> bool:
    """Return whether the norm after a conv takes the mean of each channel away."""
    if norm is None:
        return False
    return isinstance(supernet.mixed(norm).operations[0], nn.modules.batchnorm._NormBase)


def _endless(devices: Devices, loader: Any) -> Iterator[Any]:
    """Yield batches on the device, pass after pass."""
    length(loader)
    while True:
        yield from devices.batches(loader)


@contextmanager
def _listening(supernet: Supernet, listeners: Sequence[_Listener]) -> Iterator[None]:
    """Let each listener be told."""
    hooks = [
        supernet.mixed(name).register_forward_hook(
            lambda _m, inputs, output, tell=tell: tell(inputs[0].detach(), output.detach())
        )
        for name, tell in listeners
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
