"""The original model in a supernet, run on training batches while listeners hear its convs."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from refiner.core.batches import pieces
from refiner.core.randomness import derive_seed, seeded
from refiner.core.types import Batch, Loader
from refiner.data.loaders import generators_of
from refiner.distill.patches import RowSums
from refiner.space.candidates import WholeSlot, get_candidate
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.evaluation import checked
from refiner.training.passes import endless, length
from refiner.training.task import Task, run_network

Listener = tuple[str, Callable[[torch.Tensor, torch.Tensor], None]]
"""Name of a conv or a norm, and a function that gets its input and output after each call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The original model in a supernet, and the training batches that it runs on."""

    supernet: Supernet
    loader: Loader
    task: Task
    devices: Devices
    seed: int
    calls: dict[str, int] = field(default_factory=dict)
    """How often a batch calls each conv or norm that has been listened to."""

    def run(
        self, listeners: Sequence[Listener], batches: int, *, after_batch: Callable[[], None]
    ) -> None:
        """Run the model on batches, over several passes where the loader has fewer.

        Args:
            listeners: get the inputs and outputs of convs.
            batches: how many batches; each piece of a large one counts.
            after_batch: is called after each batch.
        """
        with self._seeded(1):
            every = itertools.chain.from_iterable(
                map(pieces, self.devices.batches(endless(self.loader)))
            )
            for batch in itertools.islice(every, batches):
                self._forward(batch, listeners)
                after_batch()

    def read(self, sums: Sequence[RowSums[object]], most: int) -> None:
        """Add rows to sums until they have enough, the pass ends, or after ``most`` batches."""
        with self._seeded(0):
            for number, batch in enumerate(self._once(most)):
                open_sums = [each for each in sums if not each.full]
                if not open_sums:
                    break
                held_out = _is_held_out(number)
                listeners: dict[bool, list[Listener]] = {False: [], True: []}
                for s in open_sums:
                    listeners[s.passed].append((s.name, s.add_held_out if held_out else s.add))
                self._read(batch, listeners[False], listeners[True])

    def measure(self, listeners: Sequence[Listener], most: int) -> None:
        """Give the listeners the batches held out of the first ``most``, or the only batch."""
        if not listeners:
            return
        with self._seeded(0):
            first: Batch | None = None
            for number, batch in enumerate(self._once(most + 2)):
                if _is_held_out(number):
                    self._forward(batch, listeners)
                first = batch if number == 0 else None
            if first is not None:
                self._forward(first, listeners)

    def _once(self, most: int) -> Iterator[Batch]:
        """Yield some batches of one pass, large ones in pieces."""
        length(self.loader)
        batches = itertools.islice(iter(self.devices.batches(self.loader)), most)
        return itertools.chain.from_iterable(map(pieces, batches))

    def _seeded(self, epoch: int) -> AbstractContextManager[None]:
        """Return a context in which the loader draws what the number of a run decides."""
        return seeded(derive_seed(self.seed, "distil", epoch), generators_of(self.loader))

    def _read(
        self, batch: Batch, listeners: Sequence[Listener], passed: Sequence[Listener]
    ) -> None:
        """Run the network, and once more for those who hear what groups of convs pass on.

        Args:
            batch: the batch.
            listeners: get inputs and outputs of convs.
            passed: get what the last convs of groups read where the convs before pass their input
                on, and the outputs of the original.
        """
        outputs: dict[str, list[torch.Tensor]] = {name: [] for name, _ in passed}

        def keep(name: str) -> Listener:
            # A copy, as the network may write into it.
            return name, lambda _x, y: outputs[name].append(y.clone())

        self._forward(batch, [*listeners, *map(keep, outputs)])
        if outputs:
            with _passing_on(self.supernet, outputs):
                self._forward(batch, passed)

    def _forward(self, batch: Batch, listeners: Sequence[Listener]) -> None:
        """Run the network, but no further than the last conv that is listened to."""
        with (
            _listening(self.supernet, listeners, self.calls),
            torch.no_grad(),
            self.devices.autocast(),
        ):
            checked(partial(run_network, self.task), self.supernet.model, batch)


class _AllHeard(BaseException):  # handlers of errors in a model let it pass
    """Nobody listens to the rest of a run of the network."""


def _is_held_out(number: int) -> bool:
    """Return whether the batch of that number is held out: every fifth, the second one first."""
    return number % 5 == 1


@contextmanager
def _passing_on(supernet: Supernet, outputs: Mapping[str, list[torch.Tensor]]) -> Iterator[None]:
    """Let some groups pass their input on to their last convs, which then give known outputs.

    Args:
        supernet: with the originals on its path.
        outputs: of the last convs of the groups, by name, in the order of the calls.
    """
    before, hooks = supernet.vector, []
    groups = {
        s: slot for s, slot in enumerate(supernet.space.slots) if slot.sites[-1].conv in outputs
    }
    supernet.select(
        tuple(_merged(supernet.candidates[s]) if s in groups else 0 for s in range(len(before)))
    )
    for last in (slot.sites[-1] for slot in groups.values()):
        if last.norm is not None:  # the rest of the network runs as in the original
            supernet.mixed(last.norm).choose(0)
        hooks.append(
            supernet.mixed(last.conv).register_forward_hook(
                lambda _m, _i, _y, given=outputs[last.conv]: given.pop(0)
            )
        )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        supernet.select(before)


def _merged(names: Sequence[str]) -> int:
    """Return the index of a candidate that merges the convs of its group."""
    kinds = map(get_candidate, names[1:])
    return next(
        k for k, kind in enumerate(kinds, 1) if isinstance(kind, WholeSlot) and kind.is_merged
    )


@contextmanager
def _listening(
    supernet: Supernet, listeners: Sequence[Listener], calls: dict[str, int]
) -> Iterator[None]:
    """Call each listener after each call of its conv, and end the run after the last one.

    The last one is known if ``calls`` says how many there are. A complete run adds to ``calls``.
    """
    names = [name for name, _ in listeners]
    left = [calls.get(name, math.inf) for name in names]
    heard = [0] * len(names)

    def hook(place: int) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def hear(_conv: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            listeners[place][1](inputs[0].detach(), output.detach())
            heard[place] += 1
            if all(count >= most for count, most in zip(heard, left, strict=True)):
                raise _AllHeard

        return hear

    hooks = [supernet.mixed(name).register_forward_hook(hook(i)) for i, name in enumerate(names)]
    try:
        with suppress(_AllHeard):
            yield
            calls |= dict(zip(names, heard, strict=True))
    finally:
        for each in hooks:
            each.remove()
