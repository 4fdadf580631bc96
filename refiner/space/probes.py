"""Runs that show whether a model bears what candidates of several convs do to it.

Names do not show whether operations between convs keep channels apart, or whether something else
reads what a branch computes. So the model runs with channels removed, and with the convs of slots
replaced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from refiner.core.contents import tensors_in
from refiner.core.errors import ModelError
from refiner.core.surgery import copied, replace_modules
from refiner.core.tolerance import rerun_tolerance
from refiner.graph.probe import to_blame
from refiner.graph.slots import Slot
from refiner.graph.trace_check import Run, run_original
from refiner.graph.traced_model import TracedModel
from refiner.space.channel_pruning import inner_channels_of, kept_channels, pruned
from refiner.space.filling import fill

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inner:
    """A set of inner channels of a model."""

    first: str
    """Name of the dense conv that makes them."""
    last: str
    """Name of the dense conv that reads them."""
    channels: int
    """Their number in the original."""
    kept: torch.Tensor
    """Indices of those that stay."""
    gates: tuple[str, ...]
    """Names of the layers of gates that read them."""


def broken_groups(traced: TracedModel, groups: Sequence[Slot]) -> list[int]:
    """Return the indices of the groups whose channels cannot be pruned.

    Either their channels mix between the convs, or the model depends on their number. To find out,
    the model runs with half of the inner channels, and the original with all. In both, the first
    conv of each set gives the same noise, so that channels differ for any example input. Gates read
    zeros of the channels that go. The last conv has to read the same values of those that stay.
    """
    model = traced.source
    modules = dict(traced.work.named_modules())
    kept = [kept_channels(slot, 0.5, modules) for slot in groups]

    def holds(numbers: Sequence[int]) -> bool:
        fewer, sets = copied(model), list[_Inner]()
        for i in numbers:
            replace_modules(fewer, pruned(groups[i], kept[i], modules))
            sites = groups[i].sites
            sets += [
                _Inner(
                    first=sites[inner[0]].conv,
                    last=sites[inner[-1]].conv,
                    channels=sites[inner[0]].spec.out_channels,
                    kept=channels,
                    gates=tuple(
                        gate.reduce for i in inner[:-1] for gate in sites[i].gates if gate.reduce
                    ),
                )
                for inner, channels in zip(inner_channels_of(groups[i]), kept[i], strict=True)
            ]
        try:
            for run in traced.runs:
                if run.training:  # with other shapes, it draws other random numbers
                    run_original(fewer, run.example, training=True)
                elif not _equal(_read(fewer, sets, run), _read(traced.work, sets, run)):
                    return False
        except ModelError:
            return False
        return True

    return to_blame(len(groups), holds)


def _read(work: nn.Module, sets: Sequence[_Inner], run: Run) -> dict[str, torch.Tensor]:
    """Return the kept channels that each last conv reads while each first conv gives noise."""
    read: dict[str, torch.Tensor] = {}

    def stay(tensor: torch.Tensor, inner: _Inner) -> torch.Tensor:
        return tensor.index_select(1, inner.kept.to(tensor.device))

    hooks = []
    for i, inner in enumerate(sets):
        few = bool(work.get_submodule(inner.last).in_channels == len(inner.kept))

        def noise(
            _m: nn.Module,
            _i: object,
            output: torch.Tensor,
            i: int = i,
            inner: _Inner = inner,
            few: bool = few,
        ) -> torch.Tensor:
            shape = (len(output), inner.channels, *output.shape[2:])
            drawn = torch.randn(shape, generator=torch.Generator().manual_seed(i)).to(output)
            return stay(drawn, inner) if few else drawn

        def keep(
            _m: nn.Module,
            inputs: tuple[torch.Tensor],
            inner: _Inner = inner,
            few: bool = few,
        ) -> None:
            read[inner.last] = inputs[0] if few else stay(inputs[0], inner)

        def blind(
            _m: nn.Module, inputs: tuple[torch.Tensor], inner: _Inner = inner
        ) -> tuple[torch.Tensor]:
            seen = torch.zeros_like(inputs[0])
            at = inner.kept.to(seen.device)
            return (seen.index_copy(1, at, stay(inputs[0], inner)),)

        hooks.append(work.get_submodule(inner.first).register_forward_hook(noise))
        if not few:
            hooks += [work.get_submodule(n).register_forward_pre_hook(blind) for n in inner.gates]
        hooks.append(work.get_submodule(inner.last).register_forward_pre_hook(keep))
    try:
        run_original(work, run.example, run.training)
    finally:
        for hook in hooks:
            hook.remove()
    return read


def broken_whole(traced: TracedModel, slots: Sequence[Slot], name: str) -> list[int]:
    """Return the indices of the slots whose convs a candidate cannot replace all at once.

    The model runs with the candidate, and with noise in place of the outputs of the slots. The
    original with this noise has to give the same.
    """
    modules = dict(traced.work.named_modules())

    def holds(numbers: Sequence[int]) -> bool:
        replaced, outputs = copied(traced.source), {slots[i].output: i for i in numbers}
        for i in numbers:
            replace_modules(replaced, fill(slots[i], name, modules, lambda conv: conv))
        try:
            for run in traced.runs:
                given = _with_noise(replaced, outputs, run)
                # In train mode, other shapes between the convs draw other random numbers.
                if not run.training and not _equal(given, _with_noise(traced.work, outputs, run)):
                    return False
        except ModelError:
            return False
        return True

    return to_blame(len(slots), holds)


def _with_noise(work: nn.Module, seeds: Mapping[str, int], run: Run) -> dict[int, torch.Tensor]:
    """Return the tensors in a model's output where some modules give noise of seeds by name."""

    def noise(output: torch.Tensor, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(output.shape, generator=generator).to(output)

    hooks = [
        work.get_submodule(name).register_forward_hook(lambda _m, _i, y, seed=seed: noise(y, seed))
        for name, seed in seeds.items()
    ]
    try:
        return dict(enumerate(tensors_in(run_original(work, run.example, run.training))))
    finally:
        for hook in hooks:
            hook.remove()


def _equal(some: Mapping[_Key, torch.Tensor], others: Mapping[_Key, torch.Tensor]) -> bool:
    """Return whether tensors of the same names are equal up to rounding.

    On the meta device only their shapes are compared.
    """
    if some.keys() != others.keys():
        return False
    for name, first in some.items():
        second = others[name]
        if first.shape != second.shape:
            return False
        if first.is_meta or not first.is_floating_point():
            continue
        rounding = max(1e-3, 4 * torch.finfo(second.dtype).eps, rerun_tolerance(second))
        atol = rounding * float(second.nan_to_num().abs().max().clamp(min=1e-6))
        if not torch.allclose(first, second, rtol=0, atol=atol, equal_nan=True):
            return False
    return True
