"""Evaluate a model on a task, and recalibrate its norms before that."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from refiner.core.contents import tensors_in
from refiner.core.errors import ConfigError, DataError, RefinerError, TrainingError, one_line
from refiner.core.types import Batch, Loader
from refiner.graph.input_advice import advice_on_batch
from refiner.graph.trace_check import location_of
from refiner.training.agreement import Agreement
from refiner.training.devices import Devices
from refiner.training.task import Task, run_network

T = TypeVar("T")


def checked(compute: Callable[[nn.Module, Batch], T], module: nn.Module, batch: Batch) -> T:
    """Return ``compute(module, batch)``; turn an error of the model into one line for the user.

    Raises:
        DataError: the model fails on the batch.
        TrainingError: the device is out of memory.
    """
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
            f"{one_line(error, 200)}{location_of(error)}. {advice_on_batch(module, batch)}"
        ) from error


def kind(value: object) -> str:
    """Return the kind of a value for messages, such as ``a tensor of shape (2, 3)``."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def _measured(task: Task, module: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the task's sums for a batch, one-dimensional."""
    part = checked(task.measure, module, batch)
    if not isinstance(part, torch.Tensor) or part.dim() != 1:
        raise ConfigError(
            f"{type(task).__name__}.measure gives {kind(part)}. Return a one-dimensional tensor of "
            "sums over the batch."
        )
    return part


def rehearse(module: nn.Module, loader: Loader, task: Task, devices: Devices) -> None:
    """Score one batch, so that a mistake in the task shows before anything is trained.

    Raises:
        ConfigError: ``measure`` or ``score`` returns something of the wrong type or shape.
        DataError: there is no batch, or the model fails on it.
    """
    module.eval()
    if isinstance(task, nn.Module):
        task.eval()
    with torch.no_grad(), devices.autocast():
        batch = next(iter(devices.batches(loader)), None)
        if batch is None:
            raise DataError("the validation loader gave no batch. Give it data.")
        score_of(task, _measured(task, module, batch).double().cpu())


def evaluate(module: nn.Module, batches: Iterable[Batch], task: Task, devices: Devices) -> float:
    """Return the task's score of ``module`` over batches on the device, in eval mode.

    Raises:
        DataError: there is no batch, or the model fails on one.
        TrainingError: the score is not finite.
    """
    return _finite(task, sums_of(module, batches, task, devices))


def sums_of(
    module: nn.Module, batches: Iterable[Batch], task: Task, devices: Devices
) -> torch.Tensor:
    """Return the sums of ``task.measure`` over batches, from which :func:`evaluate` scores.

    Raises:
        ConfigError: ``measure`` returns something of the wrong type or shape.
        DataError: there is no batch, or the model fails on one.
    """
    module.eval()
    (sums,) = _summed(lambda batch: (_measured(task, module, batch),), batches, task, devices)
    return sums


def score_of(task: Task, sums: torch.Tensor) -> float:
    """Return the score of the added sums, finite or not.

    Raises:
        ConfigError: ``score`` returns something other than a number.
    """
    score = task.score(sums)
    if not isinstance(score, float | int):
        raise ConfigError(f"{type(task).__name__}.score gives {kind(score)}. Return a float.")
    return float(score)


def evaluate_both(
    networks: Sequence[Callable[[], nn.Module]],
    batches: Iterable[Batch],
    agreement: Agreement,
    devices: Devices,
) -> list[tuple[float, float]]:
    """Return the agreement of networks with the teacher and their scores on the task, in one pass.

    The teacher runs once for each batch, and none of its outputs is kept for the next. The errors
    are those of :func:`evaluate`.

    Args:
        networks: each is returned by a call, which may make it the active path of a supernet.
            Every batch goes through all of them.
        batches: on the device.
        agreement: with the teacher.
        devices: where.

    Returns:
        Both figures of each network.
    """

    def measured(batch: Batch) -> list[torch.Tensor]:
        parts: list[torch.Tensor] = []
        for network in networks:
            parts += checked(agreement.measure_both, network(), batch)
        agreement.forget()
        return parts

    for network in networks:
        network().eval()
    sums = _summed(measured, batches, agreement.task, devices)
    return [
        (_finite(agreement, compared), _finite(agreement.task, own))
        for compared, own in zip(sums[::2], sums[1::2], strict=True)
    ]


def _summed(
    measure: Callable[[Batch], Sequence[torch.Tensor]],
    batches: Iterable[Batch],
    task: Task,
    devices: Devices,
) -> list[torch.Tensor]:
    """Return the sums of what ``measure`` returns, over all batches and processes."""
    if isinstance(task, nn.Module):
        task.eval()
    sums: list[torch.Tensor] | None = None
    with torch.no_grad(), devices.autocast():
        for batch in batches:
            parts = [part.double() for part in measure(batch)]
            sums = parts if sums is None else [a + b for a, b in zip(sums, parts, strict=True)]
    if sums is None:
        raise DataError("the validation loader gave no batch. Give it data.")
    return [devices.summed(each).cpu() for each in sums]


def _finite(task: Task, sums: torch.Tensor) -> float:
    """Return the score for the added sums.

    Raises:
        TrainingError: it is not finite.
    """
    score = task.score(sums)
    if not math.isfinite(score):
        raise TrainingError(
            f"the score ({task.metric}) is {score}. Lower the learning rate (--lr, lr_max), or let "
            "the task's score be finite for a bad model."
        )
    return score


@contextmanager
def norms_in_training(
    module: nn.Module, among: Iterable[nn.Module] | None = None
) -> Iterator[set[nn.Module]]:
    """Put norms with running statistics in train mode, and all else in eval mode.

    Inside, the statistics of such a norm are the plain mean over all its calls. Gives the norms
    that are called.

    Args:
        module: the network.
        among: modules of it whose norms are meant; all by default.
    """
    module.eval()
    norms = [
        child
        for child in (module.modules() if among is None else among)
        if isinstance(child, nn.modules.batchnorm._NormBase) and child.track_running_stats
    ]
    momenta = [norm.momentum for norm in norms]
    begun: set[nn.Module] = set()

    def begin(norm: nn.Module, _inputs: object) -> None:
        if norm not in begun:
            begun.add(norm)
            norm.reset_running_stats()  # type: ignore[operator]

    hooks = [norm.register_forward_pre_hook(begin) for norm in norms]
    for norm in norms:
        norm.momentum = None
        norm.train()
    try:
        yield begun
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def recalibrate(
    module: nn.Module, batches: Iterable[Batch], task: Task, devices: Devices
) -> set[nn.Module]:
    """Recalibrate the norms: set their running statistics to the mean over training batches.

    A supernet mixes the statistics of all its paths, so each path is recalibrated before it is
    scored. Norms that are not on the path keep their statistics.

    Returns:
        The norms on the path.
    """
    with norms_in_training(module) as norms, torch.no_grad(), devices.autocast():
        for batch in batches:
            checked(partial(run_network, task), module, batch)
    devices.average_buffers(module)
    return norms


def run_tests(
    module: nn.Module, tests: Mapping[str, Callable[[nn.Module], float]]
) -> dict[str, float]:
    """Return the results of the user's tests for a trained network, by name.

    The tests run in eval mode without gradients.

    Raises:
        ConfigError: a test raises an error, or returns something other than a number.
    """
    module.eval()
    measured = {}
    for name, test in tests.items():
        try:
            with torch.no_grad():
                measured[name] = float(test(module))
        except RefinerError:
            raise
        except Exception as error:
            raise ConfigError(
                f"the test {name!r} fails: {one_line(error)}. "
                "Write it to take a network and return a number."
            ) from error
    return measured
