"""A look at a network on a sample of the data: its score, its outputs, the scale of its inputs."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from refiner.core.batches import batch_size, inputs_and_target
from refiner.core.contents import tensors_in
from refiner.core.types import Batch
from refiner.training.compared import compared_network, main_output
from refiner.training.detection_task import Detection
from refiner.training.devices import Devices
from refiner.training.evaluation import score_of, sums_of
from refiner.training.task import Classification, Task

Change = Callable[[torch.Tensor], torch.Tensor]
"""Returns images on another scale."""


@dataclass(slots=True)
class _Watched:
    """What passed through a network, gathered call by call."""

    keep: bool
    """Whether to keep the main outputs."""
    images: int = 0
    shape: tuple[int, ...] = ()
    lows: list[torch.Tensor] = field(default_factory=list)
    highs: list[torch.Tensor] = field(default_factory=list)
    sums: list[torch.Tensor] = field(default_factory=list)
    finite_inputs: bool = True
    finite_outputs: bool = True
    outputs: list[torch.Tensor] = field(default_factory=list)
    """Main outputs of the calls, where they are kept."""
    least: torch.Tensor | None = None
    most: torch.Tensor | None = None
    """Least and largest value of each number in the main output of a sample."""
    outlier: bool = False
    """Whether main outputs cannot be compared with each other."""

    def enter(self, args: object) -> None:
        """Note the inputs of a call."""
        self.images += batch_size(args)
        images = _listed(args)
        if images is not None:
            for image in images:
                self._add(image[None])
            return
        x = next((t for t in tensors_in(args) if t.is_floating_point() and t.dim()), None)
        if x is not None:
            self._add(x)

    def _add(self, x: torch.Tensor) -> None:
        self.finite_inputs &= bool(x.isfinite().all())
        self.shape = tuple(x.shape[1:])
        channels = x.transpose(0, 1).flatten(1).double() if x.dim() > 1 else x[None].double()
        self.lows.append(channels.amin(1).cpu())
        self.highs.append(channels.amax(1).cpu())
        count = torch.full_like(channels[:, 0], channels.shape[1])
        self.sums.append(torch.stack([count, channels.sum(1), channels.square().sum(1)]).cpu())

    def leave(self, output: object) -> None:
        """Note the outputs of a call."""
        floats = [t for t in tensors_in(output) if t.is_floating_point()]
        self.finite_outputs &= all(bool(t.isfinite().all()) for t in floats)
        main = main_output(output)
        if not isinstance(main, torch.Tensor) or main.dim() < 2 or not main.is_floating_point():
            self.outlier = True
            return
        if self.keep:
            self.outputs.append(main.detach())
        low, high = main.detach().float().amin(0), main.detach().float().amax(0)
        if self.least is None or self.most is None:
            self.least, self.most = low, high
        elif low.shape == self.least.shape:
            self.least, self.most = torch.minimum(self.least, low), torch.maximum(self.most, high)
        else:
            self.outlier = True

    @property
    def constant(self) -> bool:
        """Whether all samples have one output, to a millionth."""
        if self.outlier or self.images < 2 or self.least is None or self.most is None:
            return False
        size = torch.maximum(self.least.abs(), self.most.abs()).clamp(min=1e-12)
        return bool((self.most - self.least <= 1e-6 * size).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The range of the inputs, by channel, and over all of them."""

    shape: tuple[int, ...]
    """Of one sample."""
    low: torch.Tensor
    high: torch.Tensor
    mean: float
    std: float

    def __str__(self) -> str:
        """Return it for people."""
        return (
            f"inputs {'x'.join(map(str, self.shape))} from {float(self.low.min()):.4g} to "
            f"{float(self.high.max()):.4g} (mean {self.mean:.3g}, std {self.std:.3g})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a network gives on a sample."""

    score: float
    images: int
    scale: Scale | None
    """None where no input is a tensor of real numbers."""
    finite_inputs: bool
    finite_outputs: bool
    constant: bool
    """Whether all samples have the same output, to a millionth."""
    sums: torch.Tensor
    """What the task measured, added."""
    classes: int = 0
    """Number of outputs of a classifier; 0 for other tasks."""
    labels: torch.Tensor | None = None
    """Class of each image of a classifier."""
    predictions: torch.Tensor | None = None
    """Class that a classifier gives to each image."""

    @property
    def hits(self) -> torch.Tensor | None:
        """Which images are classified correctly."""
        if self.labels is None or self.predictions is None:
            return None
        return self.labels == self.predictions


def classifies(task: Task) -> bool:
    """Return whether a task's score is the share of images that are classified correctly."""
    return isinstance(task, Classification) and (
        type(task).measure is Classification.measure and type(task).score is Classification.score
    )


def look_at(
    network: nn.Module,
    batches: Sequence[Batch],
    task: Task,
    devices: Devices,
    change: Change | None = None,
) -> Look:
    """Evaluate a network on batches, with images on another scale where ``change`` is given.

    Args:
        network: on the device; it is put in eval mode.
        batches: on the device.
        task: gives the score.
        devices: of this process alone.
        change: is applied to the first tensor of each call, or to each image of a list.

    Raises:
        RefinerError: the network fails on a batch, or the task returns something wrong.
    """
    watched = _Watched(keep=classifies(task))
    compared = compared_network(task, network)
    entered = network if isinstance(task, Detection) else compared  # before it prepares images
    with _watching(entered, compared, watched, change):
        sums = sums_of(network, batches, task, devices)
    score = score_of(task, sums)
    labels = predictions = None
    classes = 0
    if classifies(task) and watched.outputs:
        targets = [torch.as_tensor(inputs_and_target(batch)[1]) for batch in batches]
        labels = torch.cat([t[:, 0].cpu() if t.shape[1:] == (1,) else t.cpu() for t in targets])
        predictions = torch.cat([o.argmax(1).cpu() for o in watched.outputs])
        classes = watched.outputs[0].shape[1]
        if labels.shape != predictions.shape:
            labels = predictions = None
    return Look(
        score=score,
        images=watched.images,
        scale=_scale(watched),
        finite_inputs=watched.finite_inputs,
        finite_outputs=watched.finite_outputs,
        constant=watched.constant,
        classes=classes,
        labels=labels,
        predictions=predictions,
        sums=sums,
    )


@contextlib.contextmanager
def _watching(
    entered: nn.Module, compared: nn.Module, watched: _Watched, change: Change | None
) -> Iterator[None]:
    """Note what goes into one module, after ``change`` was applied, and out of another."""

    def before(
        _module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        if change is not None and args and isinstance(args[0], torch.Tensor):
            args = (change(args[0]), *args[1:])
        images = _listed(args)
        if change is not None and images is not None:
            args = ([change(image[None])[0] for image in images], *args[1:])
        watched.enter(args if args else kwargs)
        return args, kwargs

    hooks = [
        entered.register_forward_pre_hook(before, with_kwargs=True),
        compared.register_forward_hook(lambda _module, _args, output: watched.leave(output)),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _listed(args: object) -> list[torch.Tensor] | None:
    """Return the images of a call that takes a list of them; None for any other call."""
    first = args[0] if isinstance(args, tuple) and args else None
    if not isinstance(first, list) or not first:
        return None
    images = [x for x in first if isinstance(x, torch.Tensor) and x.is_floating_point() and x.dim()]
    return images if len(images) == len(first) else None


def _scale(watched: _Watched) -> Scale | None:
    shapes = {low.shape for low in watched.lows}
    if len(shapes) != 1:  # none, or inputs of different kinds
        return None
    count, total, squares = torch.stack(watched.sums).sum((0, 2)).tolist()
    mean = total / count
    return Scale(
        shape=watched.shape,
        low=torch.stack(watched.lows).amin(0),
        high=torch.stack(watched.highs).amax(0),
        mean=mean,
        std=max(squares / count - mean * mean, 0.0) ** 0.5,
    )
