"""Effects of all swaps, and of all pairs of them, from one backward pass over a few batches.

To second order, with the Gauss-Newton matrix for the Hessian, swaps that change the outputs of
their slots by ``dy`` cost ``1/2 E[(sum of g . dy)^2]`` in agreement. Here ``g`` is the gradient at
these outputs of the log-likelihood of labels that are drawn from the network's own output. So the
products ``g . dy`` of single swaps give every architecture.

All slots take their candidate of one index at a time. At the end of each slot ``dy`` is read, and
the original's output is put back, so all that follows runs as in the original. A batch takes a
forward pass for each index, and a backward pass for each draw of labels. In memory it takes a
training step without weight gradients, and the slots' outputs ``3 + draws`` times. Where labels
are drawn, large batches are taken in pieces.

Sources: Theis et al., 2018 (arXiv 1801.05787), whose Fisher pruning this extends to candidates;
Kunstner et al., 2019 (arXiv 1905.12558), for why labels are drawn.

Suffixes: N samples, J candidates of all slots, the originals included.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from refiner.core.batches import batch_size, pieces
from refiner.core.errors import ConfigError
from refiner.core.randomness import derive_seed
from refiner.core.types import Batch
from refiner.cost.costs import slot_costs
from refiner.search.effects import Array, Effects
from refiner.search.norm_shift import NormShift
from refiner.space.search_space import SearchSpace
from refiner.space.supernet import Supernet
from refiner.training.agreement import LOGITS, compared_by
from refiner.training.compared import compared_network as compared_in
from refiner.training.compared import compared_output
from refiner.training.devices import Devices
from refiner.training.evaluation import checked, norms_in_training
from refiner.training.task import TEMPERATURE, Task, run_network
from refiner.training.teacher_hooks import LEAST_VARIANCE, TINY

_Call = tuple[int, int]
"""Number of a place, and number of its call in a batch."""
_Hook = Callable[[_Call, int, torch.Tensor], torch.Tensor]
"""Gets a call, the first sample's number and the output; returns what goes on in its stead."""


def estimate_effects(
    supernet: Supernet,
    batches: Iterable[Batch],
    norm_batches: Sequence[Batch],
    task: Task,
    *,
    devices: Devices,
    seed: int = 0,
    draws: int = 2,
    advance: Callable[[], None] = lambda: None,
) -> Effects:
    """Return the estimated effects of all swaps of a supernet on agreement with its zero vector.

    Args:
        supernet: with fitted candidates, and the original's own norm statistics. The candidates'
            norms get those that they have where the rest is the original; all else stays.
        batches: of any part, on the device; labels are not used.
        norm_batches: training batches for the statistics.
        task: calls the model on a batch. If its outputs are logits, labels are drawn from their
            softened softmax. A task with ``fisher_draw`` draws itself. Any other output is taken
            for the mean of a Gaussian, also where the task has a divergence of its own: the loss
            is then that of squared errors.
        devices: where.
        seed: fixes the draws.
        draws: of labels, for each sample.
        advance: is called after each batch.

    Raises:
        ConfigError: the output has no gradient, or cannot be assigned to samples.
    """
    before = supernet.vector
    supernet.model.eval()
    places = _Places(supernet, task, devices)
    generator = torch.Generator().manual_seed(derive_seed(seed, "saliency"))
    gram_JJ = torch.zeros(len(places.column), len(places.column), dtype=torch.float64)
    count = torch.zeros((), dtype=torch.float64)
    try:
        _recalibrate(places, norm_batches)
        # A piece might be too small for the variance of other outputs.
        split = pieces if compared_by(task) == LOGITS else lambda batch: [batch]
        for batch in batches:
            for piece in split(batch):
                for products_NJ in _products(places, piece, generator, draws):
                    gram_JJ += (products_NJ.T @ products_NJ).cpu()
                    count += len(products_NJ)
            advance()
    finally:
        supernet.select(before)
    gram_JJ, count = devices.summed(gram_JJ), devices.summed(count)
    if not count or not bool(gram_JJ.isfinite().all()):
        raise ConfigError("the gradients at the slots' outputs are not finite")
    sizes = tuple(map(len, supernet.candidates))
    return Effects(
        sizes=sizes,
        gram_JJ=(gram_JJ / count).numpy(),
        added_J=_added_weights(supernet.space),
    )


def _added_weights(space: SearchSpace) -> Array:
    costs = slot_costs(space)
    whole = sum(row[0].params for row in costs)
    return np.array([cost.params - row[0].params for row in costs for cost in row]) / whole


class _Places:
    """The outputs of the slots: of the last site of a group or a branch, else of each site."""

    def __init__(self, supernet: Supernet, task: Task, devices: Devices) -> None:
        self.supernet, self.task, self.devices = supernet, task, devices
        swaps = [(s, k) for s, n in enumerate(supernet.candidates) for k in range(len(n))]
        self.column = {swap: j for j, swap in enumerate(swaps)}
        self.modules = [
            (s, supernet.mixed(site.norm or site.conv))
            for s, slot in enumerate(supernet.space.slots)
            for site in (slot.sites[-1:] if slot.is_group or slot.is_branch else slot.sites)
        ]
        self.indices = range(1, max(map(len, supernet.candidates)))
        """Those of candidates other than the original."""

    def norms(self) -> list[nn.Module]:
        """Return the norms that belong to candidates alone."""
        slots = self.supernet.space.slots
        mixed = [self.supernet.mixed(name) for slot in slots for name in slot.modules]
        own = {module for each in mixed for module in each.operations[0].modules()}
        every = [m for each in mixed for op in list(each.operations)[1:] for m in op.modules()]
        return [module for module in every if module not in own]

    def run(self, batch: Batch, index: int, at: _Hook) -> list[tuple[torch.Tensor, int]]:
        """Run the network with the candidates of an index on a batch, with a hook at each place.

        Returns:
            The main output of each call of the network, and its number of samples.
        """
        names = self.supernet.candidates
        self.supernet.select(tuple(index if index < len(each) else 0 for each in names))
        outputs: list[torch.Tensor] = []
        sizes: list[int] = []

        def before(_module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            sizes.append(batch_size(args if args else kwargs))

        def after(_module: nn.Module, _args: object, output: object) -> None:
            main = compared_output(self.task, output)
            if not isinstance(main, torch.Tensor) or not main.is_floating_point():
                raise ConfigError("the main output is not a tensor of real numbers")
            outputs.append(main)

        model = self.supernet.model
        network = compared_in(self.task, model)
        handles = [
            network.register_forward_pre_hook(before, with_kwargs=True),
            network.register_forward_hook(after),
            *(
                module.register_forward_hook(_counting(place, at, sizes))
                for place, (slot, module) in enumerate(self.modules)
                if index < len(names[slot])
            ),
        ]
        try:
            with self.devices.autocast():
                checked(partial(run_network, self.task), model, batch)
        finally:
            for handle in handles:
                handle.remove()
        return list(zip(outputs, sizes, strict=True))


def _counting(
    place: int, at: _Hook, sizes: Sequence[int]
) -> Callable[[nn.Module, object, torch.Tensor], torch.Tensor]:
    """Return a forward hook that numbers the calls of a place."""
    calls = 0

    def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return at((place, calls - 1), sum(sizes[:-1]), output)

    return hook


def _recalibrate(places: _Places, batches: Sequence[Batch]) -> None:
    """Recalibrate the candidates' norms, each slot in the original's place of the network."""
    norms, shift = places.norms(), NormShift(places.supernet)
    with norms_in_training(places.supernet.model), torch.no_grad():
        for batch in batches:
            kept: dict[_Call, torch.Tensor] = {}
            places.run(batch, 0, _keep(kept))
            for index in places.indices:
                places.run(batch, index, _put_back(kept))
    places.devices.average_buffers(places.supernet.model)
    shift.measure()
    shift.correct(norms)
    shift.restore()


def _products(
    places: _Places, batch: Batch, generator: torch.Generator, draws: int
) -> Iterator[torch.Tensor]:
    """Yield the products of gradients and errors, N x J in float64, for each draw of labels."""
    kept: dict[_Call, torch.Tensor] = {}
    with torch.enable_grad():
        outputs = places.run(batch, 0, _keep(kept))
    if not all(output.requires_grad for output, _ in outputs):
        raise ConfigError("the main output has no gradient")
    seen = [output for output, _ in outputs]
    gradients = []
    for draw in range(draws):
        seeds = [_seeds(output, places.task, generator) for output in seen]
        found = torch.autograd.grad(
            seen, list(kept.values()), seeds, retain_graph=draw + 1 < draws, allow_unused=True
        )
        gradients.append(dict(zip(kept, found, strict=True)))
    kept = {call: output.detach() for call, output in kept.items()}
    samples = [size for _, size in outputs]
    products = torch.zeros(
        draws, sum(samples), len(places.column), dtype=torch.float64, device=seen[0].device
    )
    firsts = [sum(samples[:i]) for i in range(len(samples))]
    sizes = dict(zip(firsts, samples, strict=True))
    for index in places.indices:

        def compare(
            call: _Call, first: int, output: torch.Tensor, index: int = index
        ) -> torch.Tensor:
            original = _of(kept, call)
            error = output.float() - original.float()
            rows = slice(first, first + sizes[first])
            column = places.column[places.modules[call[0]][0], index]
            for draw, each in enumerate(gradients):
                if each[call] is not None:
                    parts = each[call].float() * error
                    products[draw, rows, column] += _by_sample(parts, sizes[first])
            return original.clone()

        with torch.no_grad():
            places.run(batch, index, compare)
    yield from products


def _keep(kept: dict[_Call, torch.Tensor]) -> _Hook:
    """Return a hook that keeps each output, from which gradients can be taken."""

    def hook(call: _Call, _first: int, output: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and not output.requires_grad:  # no weight before it learns
            output = output.detach().requires_grad_()
        kept[call] = output
        return output.clone()  # what follows may write into it

    return hook


def _put_back(kept: dict[_Call, torch.Tensor]) -> _Hook:
    """Return a hook that lets the kept output go on."""
    return lambda call, _first, _output: _of(kept, call).clone()


def _of(kept: dict[_Call, torch.Tensor], call: _Call) -> torch.Tensor:
    if call not in kept:
        raise ConfigError("a slot is not called as often with a candidate as with the original")
    return kept[call]


def _by_sample(parts: torch.Tensor, samples: int) -> torch.Tensor:
    """Return the sums of a tensor over each sample's part of the first dimension, N."""
    if not parts.dim() or len(parts) % samples:
        raise ConfigError(f"{len(parts)} rows of a slot's output cannot be assigned to samples")
    by_sample: torch.Tensor = parts.unflatten(0, (samples, -1))
    return by_sample.sum(dim=tuple(range(1, by_sample.dim()))).double()


def _seeds(output: torch.Tensor, task: Task, generator: torch.Generator) -> torch.Tensor:
    """Return ``r`` of the shape of an output, at random, so that a small change ``dz`` of the
    output costs ``1/2 E[(r . dz)^2]`` of each sample's agreement."""
    z = output.detach().float()
    if compared_by(task) == LOGITS:
        share = (z / TEMPERATURE).softmax(dim=1)
        uniform = torch.rand((len(z), 1, *z.shape[2:]), generator=generator).to(z.device)
        label = (share.cumsum(dim=1) < uniform).sum(dim=1, keepdim=True)
        drawn = torch.zeros_like(z).scatter_(1, label.clamp(max=z.shape[1] - 1), 1.0)
        return ((drawn - share) / math.sqrt(math.prod(z.shape[2:]))).to(output.dtype)
    draw = getattr(task, "fisher_draw", None)
    if draw is not None:
        return draw(z, generator).to(output.dtype)  # type: ignore[no-any-return]
    sign = torch.randint(2, z.shape, generator=generator).to(z) * 2 - 1
    variance = max(float(z.var(correction=0)), LEAST_VARIANCE * float(z.square().mean()), TINY)
    return (sign * math.sqrt(2 * len(z) / z.numel() / variance)).to(output.dtype)
