"""Train, recalibrate and evaluate a model."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from refiner.core.errors import ConfigError, DataError, TrainingError
from refiner.core.progress import Progress, Silent
from refiner.core.randomness import derive_seed, seeded
from refiner.core.surgery import copied
from refiner.data.loaders import generators_of
from refiner.training.devices import Devices
from refiner.training.evaluation import checked, evaluate, kind, length
from refiner.training.schedules import SCHEDULES
from refiner.training.task import Task

_CHECK_EVERY = 20
"""Steps between looks at the loss; a look waits for the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How weights are trained: SGD with momentum. Learning rates and schedule are the paper's (section 4.1)."""

    epochs: int = 15
    lr_max: float = 0.1
    lr_min: float = 0.0001
    schedule: str = "sgdr"
    """``sgdr`` (warm restarts), ``cosine`` or ``step``; see schedules.py."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """The paper is silent; the value of He et al.'s successors on CIFAR, and of ArcFace."""
    gradient_clip: float = 5.0
    """Largest norm of the gradient, that of a task's head included; ENAS's value."""
    teacher_weight: float = 0.0
    """Share of the loss that draws a rewritten network to what the original gives; see teacher.py."""

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ConfigError(f"epochs is {self.epochs}. Give 0 or more.")
        if not 0 <= self.lr_min <= self.lr_max or self.lr_max == 0:
            raise ConfigError(
                f"the learning rates are {self.lr_max} down to {self.lr_min}. "
                "Give a positive one, and a least one that is not above it."
            )
        for name in ("momentum", "weight_decay"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}. Give 0 or more.")
        if self.gradient_clip <= 0:
            raise ConfigError(f"gradient_clip is {self.gradient_clip}. Give more than 0.")
        if not 0 <= self.teacher_weight <= 1:
            raise ConfigError(f"teacher_weight is {self.teacher_weight}. Give a share, 0 to 1.")
        if self.schedule not in SCHEDULES:
            raise ConfigError(
                f"unknown schedule {self.schedule!r}. Choose one of: {', '.join(SCHEDULES)}."
            )

    def learning_rate(self, epoch: float, epochs: int) -> float:
        """Return the learning rate at a moment of a training of ``epochs`` epochs."""
        share = SCHEDULES[self.schedule](epoch, epochs)
        return self.lr_min + (self.lr_max - self.lr_min) * share


class WeightTrainer:
    """SGD on one module: the optimizer, its schedule, and one epoch of steps.

    A task that is a module, with a head of its own say, is trained along: a copy of it, so that each
    training begins with the head as it came.
    """

    def __init__(
        self, module: nn.Module, task: Task, devices: Devices, config: TrainConfig, epochs: int
    ) -> None:
        self.placed = devices.place(module)
        self.module, self.devices = module, devices
        self.config, self.epochs = config, epochs
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        if not self.parameters:
            raise ConfigError("no parameter of the model takes a gradient. Unfreeze some.")
        self.head: nn.Module | None = None
        if isinstance(task, nn.Module):
            task = self.head = copied(task).to(devices.device)  # type: ignore[assignment]
            self.parameters += [p for p in self.head.parameters() if p.requires_grad]
        self.task = task
        """The task to score with: what the head has learned is in it."""
        self.optimizer = torch.optim.SGD(
            self.parameters,
            lr=config.lr_max,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )

    def epoch(
        self,
        loader: Any,
        epoch: int,
        progress: Progress,
        *,
        before_step: Callable[[int], None] = lambda _: None,
        values: Callable[[], dict[str, float | str]] = dict,
    ) -> float:
        """Train for one pass over ``loader`` and return the mean loss.

        Args:
            loader: batches, as :meth:`Devices.loader` returned them.
            epoch: number of this epoch of ``epochs``, from 0; it sets the learning rate.
            progress: is told of each step.
            before_step: called with the number of the step; the search selects a path here.
            values: what else to show.

        Raises:
            TrainingError: the loss is not finite.
        """
        self.placed.train()
        if self.head is not None:
            self.head.train()
        steps = length(loader)
        total = torch.zeros((), device=self.devices.device)
        done = 0
        batches = itertools.islice(self.devices.batches(loader), steps)
        for done, batch in enumerate(batches, start=1):
            rate = self.config.learning_rate(epoch + (done - 1) / steps, self.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            before_step(done - 1)
            with self.devices.autocast():
                loss = checked(self.task.loss, self.placed, batch)
            self.optimizer.zero_grad(set_to_none=True)
            self._backward(loss)
            if self.head is not None:
                self.devices.average_gradients(self.head)
            nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
            self.optimizer.step()
            total += loss.detach()
            if done % _CHECK_EVERY == 0 or done == steps:
                shown = self._finite(total / done, epoch)
                progress.advance(
                    _CHECK_EVERY if done % _CHECK_EVERY == 0 else done % _CHECK_EVERY,
                    loss=shown,
                    **values(),
                )
        if done == 0:
            raise DataError("the training loader gave no batch. Give it data.")
        self.devices.average_buffers(self.module)
        return self._finite(total / done, epoch)

    def _backward(self, loss: Any) -> None:
        if not isinstance(loss, torch.Tensor) or loss.dim() or not loss.requires_grad:
            raise ConfigError(
                f"{type(self.task).__name__}.loss gives {kind(loss)}. Return a scalar tensor that "
                "follows from the model's output."
            )
        loss.backward()

    def _finite(self, loss: torch.Tensor, epoch: int) -> float:
        value = float(self.devices.mean(loss))
        if not math.isfinite(value):
            raise TrainingError(
                f"the training loss is {value} in epoch {epoch + 1}. Lower the learning rate "
                "(--lr, lr_max), and look for such values in the data."
            )
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return weights, those of the task's head too, and optimizer."""
        return {
            "module": self.module.state_dict(),
            "head": self.head.state_dict() if self.head is not None else {},
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        self.module.load_state_dict(state["module"])
        if self.head is not None:
            self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """How a training ended."""

    score: float
    """The task's score on the validation part after the last epoch."""
    losses: tuple[float, ...]
    """Mean training loss of each epoch."""


def train(
    model: nn.Module,
    train_loader: Any,
    val_loader: Any,
    task: Task,
    *,
    devices: Devices,
    config: TrainConfig | None = None,
    seed: int = 0,
    name: str = "train",
    progress: Progress | None = None,
    state: dict[str, Any] | None = None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda _: None,
) -> TrainResult:
    """Train ``model`` in place and score it on the validation part.

    Args:
        model: is moved to the device and trained.
        train_loader, val_loader: as :meth:`Devices.loader` returned them.
        task: the loss and the score.
        devices: where.
        config: how.
        seed: fixes order, augmentation and dropout; two models trained with one seed see the same.
        name: of the phase, for progress.
        progress: listener.
        state: what ``on_epoch`` was given, to go on from there.
        on_epoch: is called after each epoch with the whole state.

    Raises:
        TrainingError: the loss is not finite.
    """
    config = config or TrainConfig()
    progress = progress or Silent()
    trainer = WeightTrainer(model, task, devices, config, config.epochs)
    first, losses = 0, []
    if state is not None:
        trainer.load_state_dict(state["trainer"])
        first, losses = state["epoch"], list(state["losses"])
    steps, generators = length(train_loader), generators_of(train_loader, val_loader)
    progress.begin(name, steps * config.epochs, steps * first)
    for epoch in range(first, config.epochs):
        with seeded(derive_seed(seed, "train", epoch), generators):
            losses.append(trainer.epoch(train_loader, epoch, progress))
        on_epoch({"epoch": epoch + 1, "losses": losses, "trainer": trainer.state_dict()})
    with seeded(derive_seed(seed, "train", "score"), generators):
        score = evaluate(model, devices.batches(val_loader), trainer.task, devices)
    progress.advance(0, **{task.metric: score})
    progress.end()
    return TrainResult(score=score, losses=tuple(losses))
