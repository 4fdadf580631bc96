"""ConvRefit: one conv of a network, fitted again to the original on the network's own inputs.

A conv is fitted together with the batch norm after it, as one affine map. Then the norm gets the
statistics of the new output, so that the map is the same in training.

Suffixes: N samples, P rows, F features, C channels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from refiner.core.randomness import derive_seed
from refiner.distill.candidate_fit import Conv
from refiner.distill.fitting import is_plain
from refiner.distill.least_squares import mean_error, solve
from refiner.distill.moments import Moments, MomentSums
from refiner.distill.patches import windows
from refiner.graph.conv_spec import conv_spec
from refiner.space.search_space import SearchSpace
from refiner.training.devices import Devices

_ROWS_PER_FEATURE = 30
_LEAST_ROWS = 16384
_MOST_TARGETS = 2**22
"""Most numbers in the targets of a conv, which bounds its rows: 16 MiB."""
_PIECE = 2**24
"""Numbers, of the features of as many rows as are held at once."""
_HELD_OUT = 5
"""One sample in so many is held out, and chooses the ridge."""
FEWEST_ROWS = 256
"""A conv with fewer stays as it is, since they do not settle the statistics of its norm."""
MOST_BYTES = 3 * 2**30
"""Of the moments and factors of a conv; one that needs more stays as it is."""
_BYTES_PER_PAIR = 72
_LEAST_SCALE = 1e-3
"""Least scale of a channel of a norm, over the mean, by which its weights are divided."""
_FORWARDS = (nn.modules.batchnorm._BatchNorm.forward, nn.SyncBatchNorm.forward)
"""Of norms without, for example, an activation of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a conv is fitted to: some positions of an output of the original."""

    rows_PC: torch.Tensor
    """All channels of the output, float32."""
    sizes: torch.Size
    """Of the output, without its channels."""
    is_joined: bool
    """Whether it is the sum of the output and another tensor."""


class ConvRefit:
    """One dense conv of a network, and its counterpart in the original.

    Args:
        name: of the conv in the original.
        conv: the one that is fitted, in place.
        norm: the batch norm that alone reads its output, changed in place; None without one.
        theirs: its counterpart.
        their_end: what ends that: the norm after it, or the conv.
        kept: which channels of the original's output it has; None for all.
        seed: fixes the positions of the rows.
    """

    def __init__(
        self,
        name: str,
        conv: Conv,
        norm: nn.modules.batchnorm._BatchNorm | None,
        theirs: Conv,
        their_end: nn.Module,
        kept: torch.Tensor | None,
        seed: int,
    ) -> None:
        self.name, self.conv, self.norm, self.seed = name, conv, norm, seed
        self.theirs, self.their_end, self.kept = theirs, their_end, kept
        self.end: nn.Module = norm or conv
        """The module whose output is fitted."""
        self.target: Target | None = None
        """None before the original has run, and once the conv is fitted."""
        self.errors: tuple[float, float] | None = None
        """On samples held out, before and after; None before :meth:`solve`."""

    def output(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output for an input; no hook hears it, as that would start another fit."""
        y = self.conv.forward(x)
        return y if self.norm is None else self.norm.forward(y)

    @property
    def wanted(self) -> tuple[nn.Module, int, bool]:
        """What :attr:`target` depends on: the original's module, the rows, and whether they may be
        those of a sum."""
        return self.their_end, self._most_rows(), self.kept is None

    def target_of(self, output: torch.Tensor, other: torch.Tensor | None = None) -> Target:
        """Return the target that the original gives.

        Args:
            output: of ``their_end``, N x C x spatial.
            other: what is added to it, N x C x spatial; None for nothing.
        """
        rows = (output if other is None else output + other).movedim(1, -1)
        sizes = rows.shape[:-1]
        rows_PC = rows[self._where(sizes, rows)].float()
        return Target(rows_PC=rows_PC, sizes=sizes, is_joined=other is not None)

    def solve(self, x: torch.Tensor, other: torch.Tensor | None, devices: Devices) -> None:
        """Fit the conv, if there are rows enough.

        Args:
            x: its input in the network, N x C x spatial.
            other: what is added to its output, N x C x spatial; None for nothing.
            devices: where to compute; all processes get the same weights.
        """
        fit, held_out = MomentSums(self.name), MomentSums(self.name)
        for sums, feature_PF, target_PC in self._rows(x, other, fit, held_out):
            sums.add(feature_PF, target_PC)
        # The processes decide together, as each has rows of its own.
        counts = [fit.rows, fit.rows > 0, held_out.rows > 0]
        rows, with_rows, with_held_out = devices.summed(
            torch.tensor(counts, dtype=torch.float64)
        ).tolist()
        if rows < FEWEST_ROWS or with_rows < devices.processes:
            return
        moments = fit.take(devices)
        held = with_held_out == devices.processes
        self._set(moments, held_out.take(devices) if held else moments)

    def _rows(
        self, x: torch.Tensor, other: torch.Tensor | None, fit: MomentSums, held_out: MomentSums
    ) -> Iterator[tuple[MomentSums, torch.Tensor, torch.Tensor]]:
        """Yield what the conv reads and its target, in pieces, each with the sums to add it to."""
        target, self.target = self.target, None
        read = windows(x, conv_spec(self.conv))
        if target is None or read.shape[: x.dim() - 1] != target.sizes:
            return  # the network gives another size here
        where, target_PC = self._where(target.sizes, x), target.rows_PC
        if self.kept is not None:
            target_PC = target_PC.index_select(1, self.kept.to(x.device))
        if other is not None:
            target_PC = target_PC - other.movedim(1, -1)[where].float()
        piece = max(1, _PIECE // math.prod(self.conv.weight.shape[1:]))
        is_held_out = where[0] % _HELD_OUT == 1
        for chosen, sums in ((~is_held_out, fit), (is_held_out, held_out)):
            for rows in chosen.nonzero().flatten().split(piece):
                feature_PF = read[tuple(index[rows] for index in where)].flatten(1).float()
                yield sums, feature_PF, target_PC[rows]

    def _where(self, sizes: torch.Size, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the indices of the rows: the same ones for outputs of the same size."""
        generator = torch.Generator().manual_seed(self.seed)
        positions = torch.randperm(math.prod(sizes), generator=generator)[: self._most_rows()]
        return torch.unravel_index(positions.to(like.device), sizes)

    def _most_rows(self) -> int:
        # Narrower convs take as many as the original's, so that networks share a run of that.
        features = max(math.prod(conv.weight.shape[1:]) for conv in (self.conv, self.theirs))
        wanted = max(_LEAST_ROWS, _ROWS_PER_FEATURE * features)
        return min(wanted, _MOST_TARGETS // self.theirs.out_channels)

    def _set(self, fit: Moments, held_out: Moments) -> None:
        """Set the conv and its norm to the best weights; the ridge draws them to today's.

        They stay as they are where samples held out are none the better for it.
        """
        both = fit.with_rows(held_out)
        variance_C = both.centred().square_C
        offset_C = self._offsets()
        prior_FC = (self.conv.weight.flatten(1).double() * self._scales()[:, None]).T
        found = solve(fit, held_out, prior_FC, centred=offset_C is not None)
        before, after = held_out.error(prior_FC), found.error
        if offset_C is not None:
            missing_C = held_out.mean_C - held_out.mean_F @ prior_FC - offset_C
            before = held_out.centred().error(prior_FC) + missing_C.square()
            mean_C, mean_F = held_out.mean_C - fit.mean_C, held_out.mean_F - fit.mean_F
            after += mean_error((mean_C - mean_F @ found.weight_FC).square(), variance_C)
        error = mean_error(before, variance_C)
        self.errors = error, min(after, error)
        if after < error:
            self._set_map(found.weight_FC, both)

    def _offsets(self) -> torch.Tensor | None:
        """Return what is added to the weighted features; None without a norm or a bias."""
        bias, norm = self.conv.bias, self.norm
        if norm is None:
            return None if bias is None else bias.double()
        assert norm.running_mean is not None
        mean_C = norm.running_mean.double() - (0 if bias is None else bias.double())
        return norm.bias.double() - mean_C * self._scales()

    def _scales(self) -> torch.Tensor:
        """Return what the norm multiplies each channel by, 1 without one."""
        norm = self.norm
        if norm is None:
            return torch.ones_like(self.conv.weight.flatten(1)[:, 0], dtype=torch.float64)
        assert norm.running_var is not None
        return (norm.weight / (norm.running_var + norm.eps).sqrt()).double()

    def _set_map(self, weight_FC: torch.Tensor, rows: Moments) -> None:
        """Let the conv and its norm give the mean of the target plus weights times features."""
        conv, norm = self.conv, self.norm
        if norm is None:
            conv.weight.copy_(weight_FC.T.reshape(conv.weight.shape))
            if conv.bias is not None:
                conv.bias.copy_(rows.mean_C - rows.mean_F @ weight_FC)
            return
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale_C = self._scales()
        # A channel that the norm all but silences would get huge weights.
        silent_C = scale_C.abs() <= _LEAST_SCALE * scale_C.abs().mean()
        scale_C = scale_C.masked_fill(silent_C, 1.0)
        weight_FC = weight_FC / scale_C
        conv.weight.copy_(weight_FC.T.reshape(conv.weight.shape))
        variance_C = (rows.centred().gram_FF @ weight_FC * weight_FC).sum(0).clamp(min=0)
        norm.running_var.copy_(variance_C)
        norm.running_mean.copy_(rows.mean_F @ weight_FC)
        if conv.bias is not None:
            norm.running_mean.add_(conv.bias)
        norm.weight.copy_(scale_C * (variance_C + norm.eps).sqrt())
        norm.bias.copy_(rows.mean_C)


def conv_refits(
    network: nn.Module, original: nn.Module, space: SearchSpace, seed: int
) -> list[ConvRefit]:
    """Return the convs of a network with an architecture of ``space`` that can be fitted.

    They are the dense ones that use a weight of their own; of an operation of several layers, the
    last one. One that is narrower than in the original has to hold some of its filters.
    """
    ours, originals = dict(network.named_modules()), dict(original.named_modules())
    fits = []
    for site in (site for slot in space.slots for site in slot.all_convs):
        operation, theirs = ours.get(site.conv), originals[site.conv]
        modules = list(operation) if isinstance(operation, nn.Sequential) else [operation]
        last = modules[-1] if modules else None
        if not isinstance(last, Conv) or last.groups != 1 or not _holds_its_weight(last):
            continue
        if _BYTES_PER_PAIR * math.prod(last.weight.shape[1:]) ** 2 > MOST_BYTES:
            continue
        narrower = last.out_channels != theirs.out_channels
        kept = kept_filters(last.weight, theirs) if narrower else None
        if narrower and kept is None:
            continue
        norms = (None, None) if site.norm is None else (ours[site.norm], originals[site.norm])
        norm, their_norm = norms if all(map(has_statistics, norms)) else (None, None)
        derived = derive_seed(seed, "front to back", site.conv)
        fits.append(ConvRefit(site.conv, last, norm, theirs, their_norm or theirs, kept, derived))
    return fits


def dense_ends(original: nn.Module, space: SearchSpace) -> list[nn.Module]:
    """Return what ends each dense conv of the original that is in a slot: its norm, or itself."""
    modules = dict(original.named_modules())
    found = []
    for site in (site for slot in space.slots for site in slot.all_convs):
        conv, norm = modules[site.conv], modules.get(site.norm or "")
        if getattr(conv, "groups", 1) == 1:
            found.append(norm if norm is not None and has_statistics(norm) else conv)
    return found


def kept_filters(weight: torch.Tensor, theirs: nn.Module) -> torch.Tensor | None:
    """Return the numbers of filters among those of a conv of the original; None if others are."""
    if not isinstance(theirs.weight, torch.Tensor):
        return None
    numbers = {row.numpy().tobytes(): i for i, row in enumerate(_filters(theirs.weight))}
    if len(numbers) < len(theirs.weight):
        return None  # equal ones may have other norms
    found = [numbers.get(row.numpy().tobytes()) for row in _filters(weight)]
    kept = [number for number in found if number is not None]
    return torch.tensor(kept) if len(kept) == len(found) else None


def _filters(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().float().cpu().flatten(1).contiguous()


def _holds_its_weight(conv: Conv) -> bool:
    """Return whether a conv can be set: its weight is a parameter, which it uses as it is."""
    return is_plain(conv) and "weight" in conv._parameters


def has_statistics(norm: nn.Module | None) -> bool:
    """Return whether a norm is a batch norm with statistics and weights, and nothing else."""
    return (
        isinstance(norm, nn.modules.batchnorm._BatchNorm)
        and type(norm).forward in _FORWARDS
        and norm.running_mean is not None
        and norm.weight is not None
    )
