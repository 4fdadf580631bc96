"""Train, recalibrate and evaluate a model."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from refiner.devices import Devices
from refiner.errors import ConfigError, DataError, TrainingError, one_line
from refiner.inputs import tensors_in
from refiner.loaders import generators_of
from refiner.progress import Progress, Silent
from refiner.randomness import derive_seed, seeded
from refiner.task import Task

_CHECK_EVERY = 20
"""Steps between looks at the loss; a look waits for the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How weights are trained: SGD with momentum and warm restarts (SGDR, Loshchilov and Hutter).

    The learning rates are the paper's (section 4.1). The cycles double in length (T_mult 2), and
    their number is chosen so that the last ends with the training: 150 epochs give the paper's
    T_0 of 10, 35 epochs its 5.
    """

    epochs: int = 15
    lr_max: float = 0.1
    lr_min: float = 0.0001
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """The paper is silent; the value of He et al.'s successors on CIFAR, and of ArcFace."""
    gradient_clip: float = 5.0
    """Largest norm of the gradient; ENAS's value."""

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


def sgdr(epoch: float, epochs: int, config: TrainConfig) -> float:
    """Return the learning rate at a moment of a training of ``epochs`` epochs.

    Cosine from ``lr_max`` to ``lr_min`` within each cycle; cycle lengths T_0, 2 T_0, 4 T_0, ... .
    There are at most four cycles, and as many as leave T_0 at five epochs or more.
    """
    cycles = max((k for k in (2, 3, 4) if epochs / (2**k - 1) >= 5), default=1)
    length = epochs / (2**cycles - 1)
    start = 0.0
    while epoch >= start + length - 1e-9 and start + length < epochs - 1e-9:
        start, length = start + length, 2 * length
    cosine = (1 + math.cos(math.pi * (epoch - start) / length)) / 2
    return config.lr_min + (config.lr_max - config.lr_min) * cosine


class WeightTrainer:
    """SGD on one module: the optimizer, its schedule, and one epoch of steps."""

    def __init__(
        self, module: nn.Module, task: Task, devices: Devices, config: TrainConfig, epochs: int
    ) -> None:
        self.placed = devices.place(module)
        self.module, self.task, self.devices = module, task, devices
        self.config, self.epochs = config, epochs
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        if not self.parameters:
            raise ConfigError("no parameter of the model takes a gradient. Unfreeze some.")
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
        steps = length(loader)
        total = torch.zeros((), device=self.devices.device)
        done = 0
        batches = itertools.islice(self.devices.batches(loader), steps)
        for done, batch in enumerate(batches, start=1):
            rate = sgdr(epoch + (done - 1) / steps, self.epochs, self.config)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            before_step(done - 1)
            with self.devices.autocast():
                loss = checked(self.task.loss, self.placed, batch)
            self.optimizer.zero_grad(set_to_none=True)
            self._backward(loss)
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
                f"{type(self.task).__name__}.loss gives {_kind(loss)}. Return a scalar tensor that "
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
        """Return weights and optimizer."""
        return {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])


def length(loader: Any) -> int:
    """Return the number of batches in a pass over ``loader``, at least one.

    Raises:
        DataError: the loader has no length, or no batch.
    """
    try:
        count = len(loader)
    except TypeError as error:
        raise DataError(
            f"the loader of type {type(loader).__name__} has no len(). Give one that knows how many "
            "batches an epoch has."
        ) from error
    if count == 0:
        raise DataError(
            f"the loader of type {type(loader).__name__} gives no batch. Give it data, or a smaller "
            "batch size where it drops a last batch that is not full."
        )
    return count


def checked(
    compute: Callable[[nn.Module, Any], torch.Tensor], module: nn.Module, batch: Any
) -> torch.Tensor:
    """Return ``compute(module, batch)``; an error of the model on a batch becomes a line for the user."""
    try:
        return compute(module, batch)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise TrainingError(
                "the device is out of memory. Use a smaller --batch-size."
            ) from error
        shapes = ", ".join("x".join(map(str, t.shape)) for t in tensors_in(batch)[:3])
        raise DataError(
            f"the model fails on a batch of the loader ({shapes or type(batch).__name__}): "
            f"{one_line(error)}. Give images that fit the model, and labels within its classes."
        ) from error


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def _measured(task: Task, module: nn.Module, batch: Any) -> torch.Tensor:
    part = checked(task.measure, module, batch)
    if not isinstance(part, torch.Tensor) or part.dim() != 1:
        raise ConfigError(
            f"{type(task).__name__}.measure gives {_kind(part)}. Return a one-dimensional tensor of "
            "sums over the batch."
        )
    return part


def rehearse(module: nn.Module, loader: Any, task: Task, devices: Devices) -> None:
    """Let a task score one batch, so that its mistakes are told before anything is trained.

    Raises:
        ConfigError: ``measure`` or ``score`` gives something else than they should.
        DataError: there is no batch, or the model fails on it.
    """
    module.eval()
    with torch.no_grad(), devices.autocast():
        batch = next(iter(devices.batches(loader)), None)
        if batch is None:
            raise DataError("the validation loader gave no batch. Give it data.")
        score = task.score(_measured(task, module, batch).double().cpu())
    if not isinstance(score, float | int):
        raise ConfigError(f"{type(task).__name__}.score gives {_kind(score)}. Return a float.")


def evaluate(module: nn.Module, batches: Iterable[Any], task: Task, devices: Devices) -> float:
    """Return the task's score of ``module`` over batches on the device, in eval mode.

    Raises:
        DataError: there is no batch, or the model fails on one.
        TrainingError: the score is not finite.
    """
    module.eval()
    sums: torch.Tensor | None = None
    with torch.no_grad(), devices.autocast():
        for batch in batches:
            part = _measured(task, module, batch).double()
            sums = part if sums is None else sums + part
    if sums is None:
        raise DataError("the validation loader gave no batch. Give it data.")
    score = task.score(devices.summed(sums).cpu())
    if not math.isfinite(score):
        raise TrainingError(
            f"the score ({task.metric}) is {score}. Lower the learning rate (--lr, lr_max), or let "
            "the task's score be finite for a bad model."
        )
    return score


@contextmanager
def _norms_in_training(module: nn.Module) -> Iterator[None]:
    """Everything in eval but the norms with running statistics, which average what they see."""
    module.eval()
    norms = [
        child
        for child in module.modules()
        if isinstance(child, nn.modules.batchnorm._NormBase) and child.track_running_stats
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def recalibrate(module: nn.Module, batches: Iterable[Any], task: Task, devices: Devices) -> None:
    """Set the running statistics of the norms to the mean over training batches.

    The statistics that a supernet gathers mix those of all its paths, so a path has to gather its
    own before it is scored. Only norms on the path see data; the others are reset.
    """
    with _norms_in_training(module), torch.no_grad(), devices.autocast():
        for batch in batches:
            checked(task.measure, module, batch)
    devices.average_buffers(module)


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
        score = evaluate(model, devices.batches(val_loader), task, devices)
    progress.advance(0, **{task.metric: score})
    progress.end()
    return TrainResult(score=score, losses=tuple(losses))
