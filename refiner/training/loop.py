"""Train, recalibrate and evaluate a model."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from refiner.core.errors import ConfigError, DataError, TrainingError, one_line
from refiner.core.listeners import tracker
from refiner.core.progress import Progress, Silent
from refiner.core.randomness import derive_seed, seeded
from refiner.core.surgery import copied
from refiner.core.types import Loader, StateDict
from refiner.data.loaders import generators_of
from refiner.training.averaging import MovingAverage
from refiner.training.devices import Devices
from refiner.training.evaluation import checked, evaluate, kind
from refiner.training.passes import length
from refiner.training.task import Task
from refiner.training.train_config import TrainConfig

__all__ = ["TrainConfig", "TrainResult", "WeightTrainer", "train"]

_CHECK_EVERY = 20
"""Steps between checks of the loss; each check waits for the device."""


class WeightTrainer:
    """SGD on one module: the optimizer, its schedule, and one epoch of steps.

    A task that is a module, such as one with a head, is trained too. The trainer copies it, so that
    each training starts from the caller's head.
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
        """The task to score with; it holds the trained head."""
        self.optimizer = torch.optim.SGD(
            self.parameters,
            lr=config.lr_max,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )

    def epoch(
        self,
        loader: Loader,
        epoch: int,
        progress: Progress,
        *,
        train_mode: bool = True,
        before_step: Callable[[int], None] = lambda _: None,
        after_step: Callable[[], None] = lambda: None,
        values: Callable[[], dict[str, float | str]] = dict,
    ) -> float:
        """Train for one pass over ``loader`` and return the mean loss.

        Args:
            loader: batches, as :meth:`Devices.loader` returned them.
            epoch: number of this epoch, from 0; it sets the learning rate.
            progress: listener.
            train_mode: without it, all but recurrent layers are in eval mode, so that norms keep
                their statistics.
            before_step: is called with the number of the step; the search selects a path here.
            after_step: is called once the weights have changed.
            values: returns further values for progress to show.

        Raises:
            ConfigError: the task's loss is not a scalar with a gradient.
            DataError: there is no batch, or the model fails on one.
            TrainingError: the loss is not finite.
        """
        _set_mode(self.placed, train_mode)
        if self.head is not None:
            self.head.train()
        steps = length(loader)
        total = torch.zeros((), device=self.devices.device)
        done = 0
        batches = itertools.islice(self.devices.batches(loader), steps)
        for done, batch in enumerate(batches, start=1):
            moment = epoch + (done - 1) / steps
            rate = self.config.learning_rate(moment, self.epochs, epoch * steps + done - 1)
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
            after_step()
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

    def _backward(self, loss: object) -> None:
        if not isinstance(loss, torch.Tensor) or loss.dim() or not loss.requires_grad:
            raise ConfigError(
                f"{type(self.task).__name__}.loss gives {kind(loss)}. Return a scalar tensor that "
                "is computed from the model's output."
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

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def modules(self) -> list[nn.Module]:
        """What is trained: the module, and the task's head if it has one."""
        return [self.module] if self.head is None else [self.module, self.head]

    def state_dict(self) -> StateDict:
        """Return the weights, those of the task's head included, and the optimizer's state."""
        return {
            "module": self.module.state_dict(),
            "head": self.head.state_dict() if self.head is not None else {},
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Load what :meth:`state_dict` returned."""
        self.module.load_state_dict(state["module"])
        if self.head is not None:
            self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])


def _set_mode(module: nn.Module, train_mode: bool) -> None:
    module.train(train_mode)
    if not train_mode:
        for child in module.modules():
            if isinstance(child, nn.RNNBase):
                child.train()  # cuDNN has no backward pass for eval mode


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Result of a training."""

    score: float
    """The task's score on the validation data after the last epoch."""
    test: float | None
    """The same on the test data; None without any."""
    losses: tuple[float, ...]
    """Mean training loss of each epoch."""

    @property
    def reported(self) -> float:
        """The score on the test data or, without any, on the validation data."""
        return self.score if self.test is None else self.test


def train(
    model: nn.Module,
    train_loader: Loader,
    val_loader: Loader,
    task: Task,
    *,
    test_loader: Loader | None = None,
    devices: Devices,
    config: TrainConfig | None = None,
    seed: int = 0,
    name: str = "train",
    progress: Progress | None = None,
    state: StateDict | None = None,
    on_epoch: Callable[[StateDict], None] = lambda _: None,
) -> TrainResult:
    """Train ``model`` in place and score it on the validation data.

    Args:
        model: is moved to the device and trained.
        train_loader, val_loader: as :meth:`Devices.loader` returned them.
        task: gives the loss and the score.
        test_loader: batches that the trained network is scored on once, at the end.
        devices: where to train.
        config: how to train.
        seed: fixes order, augmentation and dropout. Two models with one seed see the same batches.
        name: of the phase, for progress.
        progress: listener.
        state: what ``on_epoch`` received, to resume from there.
        on_epoch: is called after each epoch with the whole state.

    Raises:
        ConfigError: the model has nothing to train, or the task returns something wrong.
        DataError: there is no batch, or the model fails on one.
        TrainingError: the loss is not finite.
    """
    config = config or TrainConfig()
    progress = progress or Silent()
    trainer = WeightTrainer(model, task, devices, config, config.epochs)
    average = MovingAverage(trainer.modules, config.ema, devices) if config.ema else None
    first = 0
    losses: list[float] = []
    if state is not None:
        try:
            trainer.load_state_dict(state["trainer"])
            if average is not None:
                average.load_state_dict(state["average"])
            first, losses = int(state["epoch"]), list(map(float, state["losses"]))
        except Exception as error:  # a damaged one makes torch raise anything
            raise TrainingError(
                f"the checkpoint of {name!r} does not fit this network: {one_line(error, 150)}. "
                "Delete it to train that network again."
            ) from error
    after_step = (lambda: None) if average is None else average.update
    steps, generators = length(train_loader), generators_of(train_loader, val_loader)
    progress.begin(name, steps * config.epochs, steps * first)
    for epoch in range(first, config.epochs):
        with seeded(derive_seed(seed, "train", epoch), generators):
            losses.append(trainer.epoch(train_loader, epoch, progress, after_step=after_step))
        tracker(progress).epoch(name, epoch + 1, {"loss": losses[-1], "lr": trainer.rate})
        kept = {"epoch": epoch + 1, "losses": losses, "trainer": trainer.state_dict()}
        if average is not None:
            average.agree()
            kept["average"] = average.state_dict()
        on_epoch(kept)
    if average is not None:
        average.put_in_place()
    with seeded(derive_seed(seed, "train", "score"), generators):
        score = evaluate(model, devices.batches(val_loader), trainer.task, devices)
    shown, test = {task.metric: score}, None
    if test_loader is not None:
        with seeded(derive_seed(seed, "train", "test"), generators_of(test_loader)):
            test = evaluate(model, devices.batches(test_loader), trainer.task, devices)
        shown[f"test {task.metric}"] = test
    progress.advance(0, **shown)
    progress.end()
    tracker(progress).epoch(name, config.epochs, shown)
    return TrainResult(score=score, test=test, losses=tuple(losses))
