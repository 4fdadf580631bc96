"""Refit: the chosen network as a whole follows the original, without labels.

First its convs are fitted again, front to back (``front_to_back.py``). Then all its weights take a
few steps together: they match the original's output and the output of each block, for the same
batches. Either part may fit a few training images too closely. So it can be judged on other images,
and undone if these are none the better for it.

Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, for the outputs; Romero
et al., FitNets, 2015 (arXiv 1412.6550), for the blocks.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from refiner.core.contents import tensors_in
from refiner.core.errors import ConfigError
from refiner.core.options import option
from refiner.core.progress import Progress, Silent
from refiner.core.randomness import derive_seed, seeded
from refiner.core.types import Batch, Loader
from refiner.data.loaders import generators_of
from refiner.distill.front_to_back import FrontToBack
from refiner.space.search_space import SearchSpace
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig, WeightTrainer
from refiner.training.passes import endless
from refiner.training.task import Task
from refiner.training.teacher import WithTeacher, squared_error

LEAST_SQUARES, STEPS = "least squares front to back", "steps of gradient descent"
"""The parts of a refit, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefitConfig:
    """How the chosen network is refitted."""

    steps: int = option(
        200,
        "Steps without labels that fit the chosen network as a whole to the original, before any "
        "fine-tuning; 0 leaves them out.",
        panel="Fine-tuning",
        flag="--refit-steps",
        metavar="N",
    )
    """Steps of SGD with momentum, one training batch each."""
    learning_rate: float = 0.01
    """Learning rate at the start; it falls to zero along a cosine."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"refit steps is {self.steps}. Give 0 or more.")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}. Give more than 0.")


def refit(
    network: nn.Module,
    original: nn.Module,
    space: SearchSpace,
    loader: Loader,
    task: Task,
    *,
    devices: Devices,
    config: RefitConfig | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    judge: Callable[[nn.Module], float] | None = None,
) -> tuple[str, ...]:
    """Fit a network with an architecture of ``space`` to the original that it came from, in place.

    Args:
        network: is moved to the device.
        original: on the device, in eval mode; it stays as it is.
        space: names the blocks; see :func:`blocks_of`.
        loader: training batches, as :meth:`Devices.loader` returned them.
        task: calls a network on a batch and compares outputs; its own loss has no weight.
        devices: where to compute.
        config: how long.
        seed: fixes the order of the data and the augmentation. Networks of one seed see the same
            batches.
        progress: listener, whose phase has begun; it advances by one for each step.
        judge: scores the network in eval mode, higher is better. A part that does not raise the
            score is undone. By default all parts stay.

    Returns:
        The parts that were undone.

    Raises:
        ConfigError: the outputs of the two cannot be compared.
        TrainingError: the loss is not finite.
    """
    config, progress = config or RefitConfig(), progress or Silent()
    if not config.steps:
        return ()
    devices.move(network).eval()
    given = (original, space, loader, task)
    parts: dict[str, Callable[[], object]] = {
        LEAST_SQUARES: lambda: FrontToBack(*given, devices=devices, seed=seed).fit(network),
        STEPS: partial(_take_steps, network, *given, devices, config, seed, progress),
    }
    score = -math.inf if judge is None else judge(network)
    undone = []
    for name, part in parts.items():
        if judge is None:
            part()
            continue
        before = {key: value.clone() for key, value in network.state_dict().items()}
        part()
        reached = judge(network)
        if not reached > score:
            network.load_state_dict(before)
            undone.append(name)
        score = max(score, reached)
    return tuple(undone)


def _take_steps(
    network: nn.Module,
    original: nn.Module,
    space: SearchSpace,
    loader: Loader,
    task: Task,
    devices: Devices,
    config: RefitConfig,
    seed: int,
    progress: Progress,
) -> None:
    """Take the steps of gradient descent; the network is in eval mode afterwards."""
    matching = _Matching(task, network, original, blocks_of(space, original))
    rates = TrainConfig(
        epochs=1,
        lr_max=config.learning_rate,
        lr_min=0.0,
        schedule="cosine",
        weight_decay=0.0,  # the original says how long the weights are
    )
    trainer = WeightTrainer(network, matching, devices, rates, epochs=1)
    with seeded(derive_seed(seed, "refit"), generators_of(loader)):
        batches = _Steps(loader, config.steps)
        try:  # in train mode, norms would go by the statistics of small batches
            trainer.epoch(batches, 0, progress, train_mode=False)
        except ConfigError:  # there may be no gradient in eval mode
            trainer.epoch(batches, 0, progress)
    network.zero_grad(set_to_none=True)
    network.eval()


def blocks_of(space: SearchSpace, model: nn.Module) -> list[str]:
    """Return the names of the modules whose outputs are matched.

    They are the modules in which a skip connection ends. A model without any has the last module
    of each slot instead: the norm after its last conv, or the conv.
    """
    names = dict.fromkeys(skip.join.rpartition(":")[0] for skip in space.skips)
    modules = dict(model.named_modules())
    blocks = [name for name in names if name and name in modules]
    ends = [slot.sites[-1].norm or slot.sites[-1].conv for slot in space.slots]
    return blocks or ends


class _Matching:
    """A task whose loss is the divergence from the original, of the output and of the blocks."""

    def __init__(
        self, task: Task, network: nn.Module, original: nn.Module, blocks: Sequence[str]
    ) -> None:
        self.task = WithTeacher(task, original, weight=1.0)
        self.network, self.original, self.blocks = network, original, blocks
        self.metric = task.metric

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the divergence of the output, plus the mean relative error of the blocks."""
        with (
            _outputs(self.network, self.blocks) as ours,
            _outputs(self.original, self.blocks) as theirs,
        ):
            loss = self.task.loss(model, batch)
        errors = [
            squared_error(first.float(), second.float())
            for name in self.blocks
            for first, second in zip(ours[name], theirs[name], strict=False)
            if first.shape == second.shape
        ]
        return loss + torch.stack(errors).mean() if errors else loss

    def measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the sums of the task's ``measure``."""
        return self.task.measure(model, batch)

    def score(self, sums: torch.Tensor) -> float:
        """Return the task's score."""
        return self.task.score(sums)


@contextmanager
def _outputs(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Give the output of each call of some modules: the first tensor with real values of each."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in names}

    def listen(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            found[name] += [t for t in tensors_in(output) if t.is_floating_point()][:1]

        return model.get_submodule(name).register_forward_hook(hook)

    hooks = [listen(name) for name in names]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


class _Steps:
    """A loader of so many batches of another, over several passes where that has fewer."""

    def __init__(self, loader: Loader, steps: int) -> None:
        self.loader, self.steps = loader, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return itertools.islice(endless(self.loader), self.steps)
