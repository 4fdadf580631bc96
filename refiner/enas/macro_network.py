"""The weight-shared network of a macro space, and the network of one of its vectors.

It follows ENAS's published code (Pham et al., 2018, ``general_child.py``) but for two things: convs
have no pointwise conv in front, and the operations are those of candidates.py.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from refiner.core.errors import ConfigError
from refiner.core.randomness import derive_seed, seeded
from refiner.core.surgery import copied
from refiner.enas.macro import MacroSpace
from refiner.graph.conv_spec import ConvSpec
from refiner.space.architecture import Vector
from refiner.space.filling import built

_POOLS = ("maxpool3x3", "avgpool3x3")


class FactorizedReduction(nn.Module):
    """Halves height and width, rounded up, by two pointwise convs; one reads the pixels between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.even = nn.Conv2d(channels, channels - half, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels, half, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return N x C x ceil(H/2) x ceil(W/2) for ``x``, N x C x H x W."""
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        output: torch.Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))
        return output


class MacroPath(nn.Module):
    """The network of one vector: node ``j`` gives ``norm(op(x_{j-1}) + sum of its skips' x_t)``.

    The modules are held as they are, not copied. ``reductions`` are named ``{stage}_{t}``: what
    takes the output of node ``t`` from a stage to the next. Only those that the vector needs are
    kept.
    """

    def __init__(
        self,
        space: MacroSpace,
        vector: Vector,
        *,
        stem: nn.Module,
        operations: Iterable[nn.Module],
        norms: Iterable[nn.Module],
        reductions: nn.ModuleDict,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.vector = vector
        self.sources = space.sources(vector)
        self.stages = stages(space.nodes)
        self.stem, self.head = stem, head
        self.operations = nn.ModuleList(operations)
        self.norms = nn.ModuleList(norms)
        self.reductions = nn.ModuleDict()
        for node, sources in enumerate(self.sources, start=1):
            for t in (*sources, node - 1):
                for stage in range(self.stages[t], self.stages[node]):
                    self.reductions[f"{stage}_{t}"] = reductions[f"{stage}_{t}"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the head's output for images ``x``, N x channels x H x W."""
        outputs = [self.stem(x)]
        at = list(self.stages)
        for node, sources in enumerate(self.sources, start=1):
            for t in (*sources, node - 1):
                # No later node is of an earlier stage, so the reduced output takes the old one's
                # place.
                while at[t] < self.stages[node]:
                    outputs[t] = self.reductions[f"{at[t]}_{t}"](outputs[t])
                    at[t] += 1
            total = self.operations[node - 1](outputs[node - 1])
            for t in sources:
                total = total + outputs[t]
            outputs.append(self.norms[node - 1](total))
        output: torch.Tensor = self.head(outputs[-1])
        return output


class MacroNetwork(nn.Module):
    """The shared weights of a macro space, one path active at a time: what a search trains.

    Operations and reductions off the path cost neither time nor activations. The norm after a
    node's sum belongs to the node, whatever its operation, as in ENAS.

    Args:
        space: the nodes and their operations.
        channels: of every node; ENAS searches with 36.
        num_classes: size of the output: logits, or an embedding.
        in_channels: of the images.
        dropout: before the last layer; ENAS takes 0.1.
        seed: fixes the initial weights.
    """

    def __init__(
        self,
        space: MacroSpace,
        *,
        channels: int = 36,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if channels < 2:
            raise ConfigError(f"channels is {channels}. Give 2 or more.")
        self.space, self.candidates = space, space.choices
        self.channels, self.num_classes = channels, num_classes
        self.in_channels, self.dropout = in_channels, dropout
        with seeded(derive_seed(seed, "macro")):
            self.stem = nn.Sequential(
                nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
            )
            self.operations = nn.ModuleList(
                nn.ModuleList(_operation(name, channels) for name in space.operations)
                for _ in range(space.nodes)
            )
            self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(space.nodes))
            stage_of = stages(space.nodes)
            self.reductions = nn.ModuleDict(
                {
                    f"{stage}_{t}": FactorizedReduction(channels)
                    for t in range(1, space.nodes)
                    for stage in range(stage_of[t], stage_of[-1])
                }
            )
            self.head = nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Dropout(dropout),
                nn.Linear(channels, num_classes),
            )
        self.path: MacroPath
        self.select((0,) * len(self.candidates))

    @property
    def model(self) -> nn.Module:
        """The network itself, which is what a task is given."""
        return self

    def select(self, vector: Vector) -> None:
        """Make ``vector`` the path that the next calls take.

        Raises:
            ArchitectureError: wrong length, or an index that its position does not have.
        """
        self.space.check(vector)
        path = MacroPath(
            self.space,
            tuple(vector),
            stem=self.stem,
            operations=[
                node.get_submodule(str(vector[i]))
                for node, i in zip(self.operations, self.space.operators, strict=True)
            ],
            norms=self.norms,
            reductions=self.reductions,
            head=self.head,
        )
        # Not registered: the parameters belong to the network already.
        object.__setattr__(self, "path", path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return N x num_classes for images ``x``, N x in_channels x H x W, by the selected
        path."""
        output: torch.Tensor = self.path(x)
        return output

    def emit(self, vector: Vector) -> nn.Module:
        """Return the path of ``vector`` as a network of its own, with copies of its weights."""
        self.select(vector)
        return copied(self.path).train(self.training)

    def build(self, vector: Vector, seed: int) -> nn.Module:
        """Return the network of ``vector`` with fresh weights, on the CPU, to train from
        scratch."""
        fresh = MacroNetwork(
            self.space,
            channels=self.channels,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            dropout=self.dropout,
            seed=seed,
        )
        return fresh.emit(vector)


def stages(nodes: int) -> tuple[int, ...]:
    """Return the stage of the stem and of each node: how many halvings lie before it, 0 to 2.

    They lie after a third and two thirds of the nodes, in ENAS's 12 after nodes 4 and 8.
    """
    after = [node for node in (nodes // 3, 2 * nodes // 3) if node]
    return tuple(sum(node > a for a in after) for node in range(nodes + 1))


def _operation(name: str, channels: int) -> nn.Module:
    """Return conv-norm-relu of a candidate; of a pool, the pool after a pointwise
    conv-norm-relu."""
    spec = ConvSpec(
        in_channels=channels,
        out_channels=channels,
        kernel_size=(3, 3),
        stride=(1, 1),
        padding=((1, 1), (1, 1)),
        dilation=(1, 1),
        groups=1,
        bias=False,
        padding_mode="zeros",
    )
    if name in _POOLS:
        pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        pool = built(f"plain_{name}", spec)
        return nn.Sequential(pointwise, nn.BatchNorm2d(channels), nn.ReLU(), pool)
    return nn.Sequential(built(name, spec), nn.BatchNorm2d(channels), nn.ReLU())
