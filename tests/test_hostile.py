"""Models that do what tools like this one stumble over: refined, or refused with the reason."""

import copy
from dataclasses import dataclass

import pytest
import torch
from models import images, run_seeded
from torch import nn

import refiner
from refiner.core.errors import ModelError


def conv(out: int = 3) -> nn.Conv2d:
    return nn.Conv2d(3, out, 3, padding=1)


class Hostile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = conv(), conv(), conv()


class Branches(Hostile):
    def forward(self, x):
        x = self.stem(x)
        x = self.one(x) if x.sum() > 0 else self.one(-x)
        return self.two(x)


class Loops(Hostile):
    def forward(self, x):
        x = self.stem(x)
        rows = []
        for image in self.two(self.one(x)):
            rows += [image.mean(0)] * len(image)
        return torch.stack(rows)


class Keywords(Hostile):
    def forward(self, x):
        return self.two(self.one(input=self.stem(input=x)))


class WithoutGradient(Hostile):
    def forward(self, x):
        with torch.no_grad():
            x = self.one(self.stem(x))
        return self.two(x)


class Counts(Hostile):
    calls = 0

    def forward(self, x):
        self.calls += 1
        self.seen = [x.shape]
        return self.two(self.one(self.stem(x)))


class Catches(Hostile):
    def forward(self, x):
        x = self.stem(x)
        try:
            x = self.one(x[:, :2])
        except RuntimeError:
            x = self.one(x)
        return self.two(x)


class Recursive(Hostile):
    """Calls a module that calls back."""

    def __init__(self) -> None:
        super().__init__()
        self.back = Back()

    def forward(self, x, depth=0):
        if depth == 2:
            return self.one(x)
        return self.two(self.back(self.stem(x) if depth == 0 else x, self, depth + 1))


class Back(nn.Module):
    def forward(self, x, caller, depth):
        return caller.forward(torch.relu(x), depth)


class WeightNormed(Hostile):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.utils.weight_norm(self.one)
        self.two = nn.utils.parametrizations.weight_norm(self.two)

    def forward(self, x):
        return self.two(self.one(self.stem(x)))


class Frozen(Hostile):
    def __init__(self) -> None:
        super().__init__()
        self.one.requires_grad_(False)

    def forward(self, x):
        return self.two(self.one(self.stem(x)))


class Three(Hostile):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = (nn.Conv3d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, x):
        return self.two(self.one(self.stem(x[:, :, None].repeat(1, 1, 4, 1, 1))))


class Line(Hostile):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = (
            nn.Conv1d(3, 3, 3, padding=2, dilation=2) for _ in range(3)
        )

    def forward(self, x):
        return self.two(self.one(self.stem(x.flatten(2))))


class Hooked(Hostile):
    def __init__(self) -> None:
        super().__init__()
        self.one.register_forward_hook(lambda _m, _i, out: out * 0)

    def forward(self, x):
        return self.two(self.one(self.stem(x)))


class Buffers(Hostile):
    """An expanded buffer, and a queue that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wide", torch.ones(1).expand(4))
        self.register_buffer("queue", torch.zeros(0, 3))

    def forward(self, x):
        x = self.two(self.one(self.stem(x)))
        if self.training:
            self.queue = torch.cat([self.queue, x.mean((2, 3)).detach()])[-8:]
        return x * self.wide.mean()


class Clamps(Hostile):
    def forward(self, x):
        with torch.no_grad():
            self.two.weight.clamp_(-0.1, 0.1)
        return self.two(self.one(self.stem(x)))


class Autocasts(Hostile):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.two(self.one(self.stem(x))).float()


class ReadsNorm(Hostile):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.two(self.norm(self.one(self.stem(x)))) + self.norm.eps


class Gated(Hostile):
    """A projection whose output is gated: by itself, and through pointwise convs."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = self.stem(x)
        skip = self.one(x)
        skip = skip * torch.sigmoid(skip)
        skip = skip * torch.sigmoid(self.gate(skip.mean((2, 3), keepdim=True)))
        return self.three(torch.relu(self.two(x))) + skip

    @property
    def three(self):
        return self.last


class GatedProjection(Gated):
    def __init__(self) -> None:
        super().__init__()
        self.last = conv()


class TrainsOtherwise(GatedProjection):
    def forward(self, x):
        x = self.stem(x)
        if self.training:
            return self.one(x) + self.last(self.two(x))
        return self.last(self.two(self.one(x)))


class Causal(nn.Conv1d):
    def forward(self, x):
        return super().forward(nn.functional.pad(x, (2, 0)))


class Causals(Hostile):
    def __init__(self) -> None:
        super().__init__()
        self.one = Causal(3, 3, 3)
        self.stem, self.two = (nn.Conv1d(3, 3, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return self.two(self.one(self.stem(x.flatten(2))))


class ReluConv(nn.Conv2d):
    def forward(self, x):
        return torch.relu(super().forward(x))


class Relus(Hostile):
    def __init__(self) -> None:
        super().__init__()
        self.one = ReluConv(3, 3, 3, padding=1)

    def forward(self, x):
        return self.two(self.one(self.stem(x)))


class Names(Hostile):
    """Submodules with the names of attributes of a GraphModule."""

    def __init__(self) -> None:
        super().__init__()
        self.graph, self.meta, self.code, self._graph = (conv() for _ in range(4))

    def forward(self, x):
        return self._graph(self.code(self.meta(self.graph(self.stem(x)))))


BOTH, LAST = ["one", "two"], ["two"]


@pytest.mark.parametrize(
    ("kind", "slots"),
    [
        (Branches, BOTH), (Loops, BOTH), (Keywords, LAST), (WithoutGradient, LAST), (Counts, BOTH),
        (Catches, BOTH), (Recursive, ["one"]), (WeightNormed, BOTH), (Frozen, LAST), (Three, BOTH),
        (Line, BOTH), (Hooked, LAST), (Buffers, BOTH), (Clamps, ["one"]), (Autocasts, BOTH),
        (ReadsNorm, BOTH), (GatedProjection, ["two", "last"]), (TrainsOtherwise, ["two", "last"]),
        (Causals, LAST), (Relus, LAST), (Names, ["graph", "meta", "code", "_graph"]),
    ],
)  # fmt: skip
def test_refined_and_never_wrong(kind: type[nn.Module], slots: list[str]) -> None:
    torch.manual_seed(0)
    model, x = kind(), images()
    space = refiner.search_space(model, x)
    assert [slot.name for slot in space.slots] == slots
    supernet = refiner.Supernet(model, space)
    plain = refiner.rewrite(model, space.architecture((0,) * len(slots)))
    for mode in (False, True, False):
        expected = run_seeded(copy.deepcopy(model) if kind is Counts else model, x, mode)
        assert torch.equal(expected, run_seeded(supernet, x, mode))
        assert torch.equal(expected, run_seeded(plain, x, mode))
    other = refiner.rewrite(model, space.architecture((1,) * len(slots))).train()
    assert other(x.clone()).shape == expected.shape
    other(x).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in other.parameters() if p.grad is not None)


class Generates(Hostile):
    def forward(self, x):
        return (layer(x) for layer in (self.stem, self.one))


class Grows(Hostile):
    def forward(self, x):
        if not hasattr(self, "late"):
            self.late = conv()
        return self.late(self.one(self.stem(x)))


class Drifts(Hostile):
    def __init__(self) -> None:
        super().__init__()
        self.drift = Drift()

    def forward(self, x):
        return self.two(self.drift(self.one(self.stem(x))))


class Drift(nn.Module):
    scale = 1.0

    def forward(self, x):
        self.scale *= 0.5
        return x * self.scale


@dataclass
class Answer:
    value: torch.Tensor


class DriftsInside(Hostile):
    """Keeps state, and gives it inside an object of its own."""

    calls = 0.0

    def forward(self, x):
        self.calls += 1
        return Answer(self.two(self.one(self.stem(x))) * self.calls)


class Raises(Hostile):
    def forward(self, x):
        raise KeyError("gone")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Generates, "Generates returns a generator"),
        (Grows, "Grows makes the module late when it is called"),
        (Drifts, r"module drift \(Drift\) gives other outputs"),
        (DriftsInside, "itself gives other outputs"),
        (lambda: torch.jit.script(nn.Sequential(conv(), conv())), "is a TorchScript module"),
        (Raises, r"KeyError: 'gone' \(test_hostile.py, line \d+\)"),
        (lambda: nn.Sequential(conv(), nn.LazyConv2d(3, 3)), r"1\.weight has no shape yet"),
    ],
)
def test_refused_by_name(kind, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        refiner.search_space(kind(), images())
    assert "\n" not in str(caught.value)
