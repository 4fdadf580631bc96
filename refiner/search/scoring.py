"""Scoring: architectures of shared weights on validation batches, each with norm statistics of its
own.

The statistics that a supernet gathers in training mix those of all its paths, so a path gathers
its own from a few training batches before it is scored. Where the weights stay as they are these
batches are always the same, so that scores compare, and the statistics of an architecture are kept
beside its score.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from refiner.core.errors import TrainingError
from refiner.core.progress import Progress
from refiner.core.randomness import derive_seed, seeded
from refiner.data.loaders import generators_of
from refiner.search.norm_shift import NormShift
from refiner.search.ranked_refit import RankedRefit
from refiner.space.architecture import Vector
from refiner.space.supernet import Supernet
from refiner.training.agreement import Agreement
from refiner.training.devices import Devices
from refiner.training.evaluation import evaluate, evaluate_both, recalibrate, rehearse
from refiner.training.task import Task

_MOST_BYTES = 2**30
"""Of the weights of refitted networks that are held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """An architecture and what it scored."""

    vector: Vector
    score: float
    """The task's."""
    agreement: float | None = None
    """To the original, of a distilled search: what architectures are compared by then."""

    @property
    def objective(self) -> float:
        """Return what architectures are compared by."""
        return self.score if self.agreement is None else self.agreement


class WeightSharing(Protocol):
    """A network with one active path at a time. A Supernet is one."""

    @property
    def candidates(self) -> Sequence[Sequence[str]]:
        """Names of the alternatives of each place of a vector."""

    @property
    def model(self) -> nn.Module:
        """What the task is given."""

    def select(self, vector: Vector) -> None:
        """Make ``vector`` the path that the next calls take."""

    def emit(self, vector: Vector) -> nn.Module:
        """Return the path of ``vector`` as a module of its own."""


class Scorer:
    """Scores the paths of shared weights.

    Args:
        supernet: the shared weights.
        task: its score ranks the top-k, unless there is a teacher.
        train_loader: training batches, from which norm statistics are taken.
        val_loader: validation batches; the top-k are scored on all of them.
        devices: where.
        recalibration_batches: number of training batches for a path's norm statistics.
        fixed: whether the weights stay as they are.
        teacher: a trained network, on the device, where the shared weights stand in for its parts.
            Then ``reward`` is agreement with it, which ranks the top-k as well.
        shift: the original's norm statistics, where an earlier search of these weights has read
            them; by default they are read now.
        refit: of networks before they are ranked, where it pays. By default they are ranked with
            the weights as they are.
        seed: fixes which batches are taken.
    """

    def __init__(
        self,
        supernet: WeightSharing,
        task: Task,
        train_loader: Any,
        val_loader: Any,
        *,
        devices: Devices,
        recalibration_batches: int,
        fixed: bool,
        teacher: nn.Module | None = None,
        shift: NormShift | None = None,
        refit: RankedRefit | None = None,
        seed: int = 0,
    ) -> None:
        self.supernet, self.network, self.task = supernet, supernet.model, task
        self.train_loader, self.val_loader = train_loader, val_loader
        self.devices, self.fixed, self.seed = devices, fixed, seed
        self.recalibration_batches = recalibration_batches
        self.shift = shift
        """Of fixed weights beside a teacher: keeps to the original's own norm statistics."""
        if shift is None and fixed and teacher is not None and isinstance(supernet, Supernet):
            self.shift = NormShift(supernet)
        self._generators = generators_of(train_loader, val_loader)
        with seeded(derive_seed(seed, "rehearsal"), self._generators):
            rehearse(self.network, val_loader, task, devices)
        self.agreement = None if teacher is None else self._agreement(teacher)
        """What ``reward`` is, where it is not the task."""
        self.refit = None if self.agreement is None else refit
        self.norms: dict[Vector, dict[str, torch.Tensor]] = {}
        """Of each architecture that was ranked with fixed weights: the norm statistics, by their
        names in it."""

    def _agreement(self, teacher: nn.Module) -> Agreement | None:
        """Return the task that compares with a teacher, or None where the outputs cannot be
        compared."""
        agreement = Agreement(self.task, teacher)
        with seeded(derive_seed(self.seed, "rehearsal"), self._generators), self.devices.autocast():
            batch = next(iter(self.devices.batches(self.val_loader)))
            return agreement if agreement.can_compare(self.network, batch) else None

    @property
    def reward(self) -> Task:
        """The task whose score a strategy learns from."""
        return self.agreement or self.task

    def norm_batches(self) -> list[Any]:
        """Return the training batches that norm statistics come from; always the same where the
        weights are."""
        if not self.fixed:
            return self._next_batches()
        with self._last() as batches:
            return batches

    def _select(self, vector: Vector, norm_batches: Sequence[Any]) -> Callable[[], nn.Module]:
        """Make a path the active one, with norm statistics of its own.

        Returns:
            What makes it the active one again, with the same statistics, and returns the network.
        """
        norms = self._recalibrated(vector, norm_batches)
        kept = [(b, b.clone()) for norm in norms for b in norm.buffers(recurse=False)]

        def again() -> nn.Module:
            self.supernet.select(vector)
            for buffer, own in kept:
                buffer.copy_(own)
            return self.network

        return again

    def _recalibrated(self, vector: Vector, norm_batches: Sequence[Any]) -> set[nn.Module]:
        """Select a path, recalibrate its norms, and return these."""
        if self.shift is not None and not self.shift.measured:
            self.supernet.select((0,) * len(vector))
            recalibrate(self.network, norm_batches, self.task, self.devices)
            self.shift.measure()
        self.supernet.select(vector)
        norms = recalibrate(self.network, norm_batches, self.task, self.devices)
        if self.shift is not None:
            self.shift.correct(norms)
        return norms

    def reward_of(
        self, vector: Vector, norm_batches: Sequence[Any], val_batches: Sequence[Any]
    ) -> float:
        """Return the reward of an architecture."""
        self._select(vector, norm_batches)
        return evaluate(self.network, val_batches, self.reward, self.devices)

    def forget(self) -> None:
        """Let go what was kept of the batches last used."""
        if self.agreement is not None:
            self.agreement.forget()
        if self.refit is not None:
            self.refit.forget()

    def rank(
        self, vectors: Sequence[Vector], progress: Progress, name: str = "top-k"
    ) -> list[Scored]:
        """Score architectures on the whole validation part and return them, the best first.

        With a teacher, architectures are ranked by agreement, which predicts the accuracy on other
        images better than accuracy on as many images does. Where the weights stay fixed, ``norms``
        keeps the statistics of each architecture, without any refit.
        """
        progress.begin(name, len(vectors))
        scored = sorted(self.scored(vectors, progress), key=lambda each: -each.objective)
        self.forget()
        progress.advance(0, **self.shown(scored[0]))
        progress.end()
        return scored

    def scored(self, vectors: Sequence[Vector], progress: Progress) -> list[Scored]:
        """Score architectures as :meth:`rank` does, in a phase that has begun, in their order."""
        scored: list[Scored] = []
        with self._last() as norm_batches:
            for group in self._groups(vectors):
                networks = []
                for vector in group:
                    networks.append(self._network(vector, norm_batches))
                    progress.advance(1, vector=short(vector))
                scored += self._scored(group, networks)
        return scored

    def refits(self, vectors: Sequence[Vector]) -> bool:
        """Return whether networks are refitted before they are ranked.

        If nothing has settled that yet, the first architecture that swaps anything does: both of
        its networks are scored.
        """
        changed = [vector for vector in vectors if any(vector)]
        if self.refit is not None and self.refit.pays is None and changed:
            with self._last() as norm_batches:
                select = self._select(changed[0], norm_batches)
                network = self.supernet.emit(changed[0])
                self.refit.fit(network)
                try:
                    before, after = self._scored(changed[:1] * 2, [select, lambda: network])
                    self.refit.pays = after.objective > before.objective
                except TrainingError:  # what comes of the refit is not finite
                    self.refit.pays = False
            if not self.refit.pays:
                self.refit.forget()
        return self.refit is not None and self.refit.pays is True

    def _groups(self, vectors: Sequence[Vector]) -> list[Sequence[Vector]]:
        """Return architectures in groups, so that networks of one group fit into memory."""
        if self.agreement is None or self.refit is None or not self.refit.pays:
            return [vectors] if vectors else []
        tensors = self.agreement.teacher.state_dict().values()
        bytes_each = max(1, sum(tensor.nbytes for tensor in tensors))
        count = max(1, _MOST_BYTES // bytes_each)
        return [vectors[first : first + count] for first in range(0, len(vectors), count)]

    def _network(self, vector: Vector, norm_batches: Sequence[Any]) -> Callable[[], nn.Module]:
        """Return what gives the network of an architecture that is ranked, refitted where it is."""
        select = self._select(vector, norm_batches)
        refit = self.refit if self.refit is not None and self.refit.pays else None
        if not self.fixed and refit is None:
            return select
        network = self.supernet.emit(vector)
        if self.fixed:
            self.norms[vector] = _norms(network)
        if refit is None:
            return select
        refit.fit(network)
        return lambda: network

    def _scored(
        self, vectors: Sequence[Vector], networks: Sequence[Callable[[], nn.Module]]
    ) -> list[Scored]:
        """Score networks, each of an architecture, on the whole validation part.

        With a teacher every batch goes through all networks, so that the teacher runs once.
        """
        if self.agreement is not None:
            # Another group of networks has to see the same images.
            with seeded(derive_seed(self.seed, "ranked"), self._generators):
                batches = self.devices.batches(self.val_loader)
                both = evaluate_both(networks, batches, self.agreement, self.devices)
            return [
                Scored(vector=vector, score=score, agreement=agreement)
                for vector, (agreement, score) in zip(vectors, both, strict=True)
            ]
        scored = []
        for vector, network in zip(vectors, networks, strict=True):
            batches = self.devices.batches(self.val_loader)
            score = evaluate(network(), batches, self.task, self.devices)
            scored.append(Scored(vector=vector, score=score))
        return scored

    def shown(self, scored: Scored) -> dict[str, float | str]:
        """Return what progress shows of an architecture."""
        agreement = {} if scored.agreement is None else {"agreement": scored.agreement}
        return {self.task.metric: scored.score, **agreement, "vector": short(scored.vector)}

    def emit(self, vector: Vector) -> nn.Module:
        """Return an architecture as a module of its own, with the weights as they are and norms of
        its own."""
        with self._last() as norm_batches:
            self._select(vector, norm_batches)
        return self.supernet.emit(vector)

    def _next_batches(self) -> list[Any]:
        return list(
            itertools.islice(self.devices.batches(self.train_loader), self.recalibration_batches)
        )

    @contextmanager
    def _last(self) -> Iterator[list[Any]]:
        """Give the norm batches of weights that stay, drawn by a seed of their own."""
        with seeded(derive_seed(self.seed, "finish"), self._generators):
            yield self._next_batches()


def _norms(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of the norm statistics of a network, by their names in it."""
    return {
        f"{name}.{key}": buffer.detach().clone().cpu()
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for key, buffer in module.named_buffers(recurse=False)
    }


def short(vector: Vector) -> str:
    """Return a vector for a line of progress: ``1,0,0,2``, its middle left out where it is long."""
    text = ",".join(map(str, vector))
    return text if len(text) <= 40 else f"{text[:18]}...{text[-18:]}"
