"""Closed forms for a whole network: its convs are fitted again, front to back, on its own inputs.

Each candidate was fitted alone, on what the original gives its layer. In the chosen network, the
errors of earlier layers change what later ones read. Here the network runs once, on some training
images. When it comes to a conv, least squares fit that conv to the original, and the run goes on
with the new weights. So each conv corrects what went wrong before it, as far as it can.

Where a branch ends in the addition of a skip connection, its last conv is fitted to the sum. So it
makes up for the error of the other operand, too. Norms behind other convs, such as grouped ones,
get statistics that follow what they now read (``norm_refit.py``).

Source: He et al., Channel Pruning for Accelerating Very Deep Neural Networks, 2017 (arXiv
1707.06168), sections 3.1 (errors that accumulate) and 3.2 (branches).
"""

import itertools
import math
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from refiner.core.batches import merged, pieces, rows_of
from refiner.core.contents import tensors_in
from refiner.core.randomness import derive_seed, seeded
from refiner.core.types import Batch, Loader
from refiner.data.loaders import generators_of
from refiner.distill.conv_refit import ConvRefit, Target, conv_refits, dense_ends
from refiner.distill.moments import without_autocast
from refiner.distill.norm_refit import NormRefit, Statistics, norm_refits, setting, taking
from refiner.space.search_space import SearchSpace
from refiner.training.devices import Devices
from refiner.training.evaluation import checked
from refiner.training.passes import length
from refiner.training.task import Task, run_network

BATCHES = 5
"""Most training batches that the network runs on, in one call."""
_MOST_NUMBERS = 2**26
"""Most numbers in the input or output of a conv, which bounds the samples of the call."""
_Wanted = tuple[nn.Module, int, bool]
"""See :attr:`ConvRefit.wanted`."""
_ADDITIONS = frozenset({"add", "add_", "__add__", "__iadd__", "__radd__"})


class FrontToBack:
    """Fits networks with architectures of a search space to the original, on the same samples.

    The original runs once for all of them, or again where a network asks for what no other has.

    Memory: what one call needs for as many samples as 256 MiB hold of the largest input or output
    of a conv; 16 MiB for each conv, and again where networks differ in whether it keeps all
    channels, which are kept until :meth:`forget`; and for one conv at a time, 72 bytes for each
    pair of features (at most ``conv_refit.MOST_BYTES``).

    Args:
        original: on the device, in eval mode; it stays as it is.
        space: names the convs and their norms.
        loader: training batches, as :meth:`Devices.loader` returned them.
        task: calls a network on a batch; labels are not used.
        devices: where to compute.
        seed: fixes the batches, and the positions that are fitted.
    """

    def __init__(
        self,
        original: nn.Module,
        space: SearchSpace,
        loader: Loader,
        task: Task,
        *,
        devices: Devices,
        seed: int = 0,
    ) -> None:
        self.original, self.space, self.loader, self.task = original, space, loader, task
        self.devices, self.seed = devices, seed
        self._batches: list[Batch] = []
        self._targets: dict[_Wanted, Target | None] = {}
        self._statistics: dict[nn.Module, list[Statistics]] = {}

    def forget(self) -> None:
        """Let go what was kept for further networks."""
        self._batches, self._targets, self._statistics = [], {}, {}

    def fit(self, network: nn.Module) -> dict[str, tuple[float, float]]:
        """Fit the convs of a network in place.

        They are its dense convs, as far as :func:`~refiner.distill.conv_refit.conv_refits` can
        tell.

        Args:
            network: on the device, in any mode; in eval mode afterwards.

        Returns:
            For each conv that was fitted, by name, its error on samples held out, before and after:
            the squared error over the variance of the target.

        Raises:
            TrainingError: what a conv reads or gives is not finite.
        """
        network.eval()
        batches = self._batches = self._batches or self._drawn()
        if not batches:
            return {}
        fits = conv_refits(network, self.original, self.space, self.seed)
        fitted = {fit.norm for fit in fits if fit.norm}
        norms = norm_refits(network, self.original, self.space, fitted)
        with torch.no_grad(), without_autocast(self.devices.device.type):
            self._run_original(batches[0], fits, norms)
            with setting(norms, self.devices):
                _run(network, self.task, batches[0], [_Solution(fit, self.devices) for fit in fits])
        return {fit.name: fit.errors for fit in fits if fit.errors is not None}

    def _drawn(self) -> list[Batch]:
        """Return the samples as one batch, always the same one; none if the loader has none."""
        with seeded(derive_seed(self.seed, "front to back"), generators_of(self.loader)):
            length(self.loader)
            batches = list(itertools.islice(self.devices.batches(self.loader), BATCHES))
        return [_one_batch(batches, _most_samples(self.space))] if batches else []

    def _run_original(
        self, batch: Batch, fits: Sequence[ConvRefit], norms: Sequence[NormRefit]
    ) -> None:
        """Give fits and norms what they need to know of the original."""
        unknown = [fit for fit in fits if fit.wanted not in self._targets]
        unheard = [norm for norm in norms if norm.theirs not in self._statistics]
        if unknown or unheard:
            # All ends are listened to, so that it is the same one of two that is fitted to their
            # sum, whatever network asks.
            by_end: dict[nn.Module, list[ConvRefit]] = {
                end: [] for end in dense_ends(self.original, self.space)
            }
            for fit in unknown:
                by_end.setdefault(fit.their_end, []).append(fit)
            with taking(unheard):
                _run(self.original, self.task, batch, [_Targets(*each) for each in by_end.items()])
            self._targets |= {fit.wanted: fit.target for fit in unknown}
            self._statistics |= {norm.theirs: norm.taken for norm in unheard}
        for fit in fits:
            fit.target = self._targets.get(fit.wanted)
        for norm in norms:
            norm.taken = self._statistics[norm.theirs]


def _most_samples(space: SearchSpace) -> int:
    """Return how many samples may go through the network in one call."""
    sites = [site for slot in space.slots for site in slot.sites]
    sizes = [math.prod(shape) for site in sites for shape in (site.in_shape, site.out_shape)]
    return max(1, _MOST_NUMBERS // max(1, *sizes))


def _one_batch(batches: Sequence[Batch], samples: int) -> Batch:
    """Return the first batches as one, as many as have no more samples; or a part of the first."""
    rows = [found for batch in batches if (found := rows_of(batch)) is not None]
    if len(rows) < len(batches):
        return batches[0]
    ends = list(itertools.accumulate(rows))
    for count in range(len(batches), 0, -1):
        one = merged(batches[:count]) if ends[count - 1] <= samples else None
        if one is not None:
            return one
    numbers = sum(tensor.numel() for tensor in tensors_in(batches[0]))
    return next(pieces(batches[0], samples * numbers // ends[0]))


class _Targets:
    """Takes the targets of convs with the same end from a run of the original."""

    def __init__(self, end: nn.Module, fits: Sequence[ConvRefit]) -> None:
        self.end, self.fits = end, fits

    def at_end(self, output: torch.Tensor) -> bool:
        """Take the output of a branch, which may be added to another tensor."""
        for fit in self.fits:
            fit.target = fit.target_of(output)
        return True

    def at_join(self, output: torch.Tensor, other: torch.Tensor) -> None:
        """Take the sum instead, for convs with all channels."""
        for fit in self.fits:
            if fit.kept is None:
                fit.target = fit.target_of(output, other)


class _Solution:
    """Fits a conv in a run of the network, once what it reads is known, and its skip connection."""

    def __init__(self, fit: ConvRefit, devices: Devices) -> None:
        self.fit, self.devices = fit, devices
        self.heard, self.end = fit.conv, fit.end
        self._x: torch.Tensor | None = None

    def hear(self, x: torch.Tensor) -> None:
        self._x = x

    def at_end(self, output: torch.Tensor) -> bool:
        """Fit the conv, unless its output is about to be added to a skip connection's."""
        if self.fit.target is not None and self.fit.target.is_joined:
            return True
        self._solve(output, None)
        return False

    def at_join(self, output: torch.Tensor, other: torch.Tensor) -> None:
        """Fit the conv to what is missing from the sum."""
        self._solve(output, other)

    def _solve(self, output: torch.Tensor, other: torch.Tensor | None) -> None:
        x, self._x = self._x, None
        if x is None:
            return
        self.fit.solve(x, other, self.devices)
        output.copy_(self.fit.output(x))  # in place: the network goes on with this tensor


_Listener = _Targets | _Solution
_AtJoin = Callable[[torch.Tensor, torch.Tensor], None]


def _run(model: nn.Module, task: Task, batch: Batch, listeners: Sequence[_Listener]) -> None:
    """Run a model, while listeners hear what convs read, and where branches end and are added."""
    joins = _Joins()

    def heard(listener: _Solution, _module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        listener.hear(inputs[0])

    def ended(
        listener: _Listener, _module: nn.Module, _inputs: object, output: torch.Tensor
    ) -> None:
        if listener.at_end(output):
            joins.expect(output, listener.at_join)

    with ExitStack() as stack:
        for each in listeners:
            hooks = [each.end.register_forward_hook(partial(ended, each))]
            if isinstance(each, _Solution):
                hooks.append(each.heard.register_forward_pre_hook(partial(heard, each)))
            for hook in hooks:
                stack.callback(hook.remove)
        stack.enter_context(joins)
        checked(partial(run_network, task), model, batch)


class _Joins(TorchFunctionMode):
    """Sees where an output is added to another tensor of its shape, before all other uses."""

    def __init__(self) -> None:
        super().__init__()
        self._expected: dict[int, tuple[weakref.ref[torch.Tensor], int, _AtJoin]] = {}

    def expect(self, output: torch.Tensor, at_join: _AtJoin) -> None:
        """Call ``at_join`` with both operands before an output is added."""
        self._expected[id(output)] = weakref.ref(output), output._version, at_join

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch."""
        if getattr(func, "__name__", "") in _ADDITIONS and len(args) == 2 and not kwargs:
            for output, other in (args, args[::-1]):
                at_join = self._awaited(output)
                if at_join is None or not isinstance(other, torch.Tensor) or other is output:
                    continue
                if other.shape == output.shape:
                    at_join(output, other)
                    break
        result = func(*args, **(kwargs or {}))
        # What else reads an output has read it as it was, so it can no longer be changed.
        if self._expected and tensors_in(result):
            for tensor in tensors_in(args):
                if tensor is not result:
                    self._expected.pop(id(tensor), None)
        return result

    def _awaited(self, output: Any) -> _AtJoin | None:
        """Return what to call for an operand, if it is an output that nothing has changed."""
        if id(output) not in self._expected:
            return None
        reference, version, at_join = self._expected[id(output)]
        kept = reference()
        return at_join if kept is output is not None and kept._version == version else None
