"""What a conv reads at sampled positions, summed batch by batch.

Suffixes: P rows, F features (channels x positions of the kernel), C channels of the output.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

import torch
from torch import nn

from refiner.distill.moments import Moments, MomentSums
from refiner.graph.conv_spec import ConvSpec
from refiner.space.operations import Pad
from refiner.training.devices import Devices

M_co = TypeVar("M_co", covariant=True)
_LEAST_ROWS = 16384
"""Rows of the fit, where the batches have them: errors and small fits are better for it."""
_LEAST_IMAGES = 32
"""Images of each batch that go through the layers before a conv, at least."""
_PIECE = 2**24
"""Numbers, of the features and targets of as many positions as are held at once."""


def windows(x: torch.Tensor, spec: ConvSpec) -> torch.Tensor:
    """Return a view of what a conv reads at each output position, N x spatial x C x kernel.

    Args:
        x: input of the conv, N x C x spatial.
        spec: of the conv; its groups do not matter.
    """
    x = Pad(spec.padding, spec.padding_mode)(x)
    dims = len(spec.kernel_size)
    for d, (k, step, gap) in enumerate(
        zip(spec.kernel_size, spec.stride, spec.dilation, strict=True)
    ):
        x = x.unfold(2 + d, gap * (k - 1) + 1, step)[..., ::gap]
    return x.movedim(1, dims + 1)


def drawn_rows(
    x: torch.Tensor, y: torch.Tensor, spec: ConvSpec, count: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield what a conv reads at some output positions, P x F, and the outputs there, P x C.

    Args:
        x: input of the conv, N x C x spatial.
        y: outputs, N x C x spatial.
        spec: of the conv.
        count: how many positions are drawn, each at most once; if there are no more, all are taken.
        generator: draws them.
    """
    read, outputs = windows(x, spec), y.movedim(1, -1)
    sizes = outputs.shape[:-1]
    features = math.prod(read.shape[len(sizes) :])
    positions = torch.randperm(math.prod(sizes), generator=generator)[:count]
    for piece in positions.split(max(1, _PIECE // (features + y.shape[1]))):
        where = torch.unravel_index(piece.to(x.device), sizes)
        yield read[where].flatten(1).float(), outputs[where].float()


class Sums(Protocol[M_co]):
    """Sums over rows, from which moments follow."""

    rows: int
    """How many rows have been added."""

    def add(self, feature_PF: torch.Tensor, target_PC: torch.Tensor) -> None:
        """Add rows."""

    def take(self, devices: Devices) -> M_co:
        """Return the moments over all processes, and let the sums go."""


class RowSums(ABC, Generic[M_co]):
    """Sums over what a conv reads and over the targets, of rows for the fit and of rows held out.

    As many rows are taken as are wanted, spread over some batches, and over more where these have
    too few.

    Args:
        name: of the conv whose outputs are the targets, for messages.
        spec: of the conv that reads the patches.
        before: layers before that conv; None where it reads the input.
        seed: fixes which positions are taken.
        passed: whether what it reads is the input of its group, which the convs before it pass on.
    """

    def __init__(
        self,
        name: str,
        spec: ConvSpec,
        before: nn.Module | None = None,
        *,
        seed: int,
        passed: bool = False,
    ) -> None:
        self.name, self.spec, self.before, self.passed = name, spec, before, passed
        self.features = spec.in_channels * math.prod(spec.kernel_size)
        self.wanted, self.batches, self._read = 0, 1, 0
        self._generator = torch.Generator().manual_seed(seed)
        self._fit, self._held_out = self._new_sums(), self._new_sums()
        self._moments: tuple[M_co, M_co] | None = None

    @abstractmethod
    def _new_sums(self) -> Sums[M_co]:
        """Return empty sums."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Size of the sums."""

    def want(self, rows: int, batches: int) -> None:
        """Ask for rows of the fit, over that many batches; the most that anyone asks for counts."""
        self.wanted, self.batches = max(self.wanted, rows), max(self.batches, batches)

    @property
    def full(self) -> bool:
        """Whether there are enough rows."""
        spread = self._read >= self.batches and bool(self._held_out.rows)
        return spread and self._fit.rows >= self.wanted

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add rows to those of the fit: input and output of the conv replaced, N x C x spatial."""
        self._add(self._fit, x, y)
        self._read += 1

    def add_held_out(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add rows to those held out."""
        self._add(self._held_out, x, y)

    def _add(self, sums: Sums[M_co], x: torch.Tensor, y: torch.Tensor) -> None:
        count = -(-max(self.wanted, _LEAST_ROWS) // self.batches)
        if self.before is not None:
            each = math.prod(y.shape[2:])
            images = max(_LEAST_IMAGES, -(-count // each))
            x, y = self.before(x[:images]), y[:images]
        for feature_PF, target_PC in drawn_rows(x, y, self.spec, count, self._generator):
            sums.add(feature_PF, target_PC)

    def moments(self, devices: Devices) -> tuple[M_co, M_co]:
        """Return the moments of both kinds of rows, the same twice where no rows are held out.

        Raises:
            TrainingError: they are not finite.
        """
        if self._moments is None:
            none = not self._held_out.rows
            fit = self._fit.take(devices)
            self._moments = fit, fit if none else self._held_out.take(devices)
        return self._moments

    def clear(self) -> None:
        """Let the moments go; rows that are added begin new ones."""
        self._moments, self._read = None, 0


class PatchSums(RowSums[Moments]):
    """Sums over all pairs of features.

    Memory: 16 bytes for each pair, while batches are read. To solve takes about three times as
    much.
    """

    def _new_sums(self) -> MomentSums:
        return MomentSums(self.name)

    @property
    def bytes(self) -> int:
        """Size of the sums."""
        return 16 * self.features * (self.features + self.spec.out_channels)
