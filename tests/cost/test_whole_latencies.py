import pytest
import torch
from models import TinyResNet, images, latencies
from sleepers import Slow

from refiner.cost import whole_latencies
from refiner.cost.deployment import Deployment
from refiner.cost.whole_latencies import anchored, random_vectors
from refiner.runtimes.timing import Patience
from refiner.space.search_space import search_space

SHORT = Patience(repeats=3, most=3, warm_up=1)


def test_random_architectures_swap_more_and_more() -> None:
    space = search_space(TinyResNet(), images())
    vectors = random_vectors(space, 40)
    assert vectors == random_vectors(space, 40)
    swaps = [sum(map(bool, vector)) for vector in vectors]
    assert sum(swaps[:10]) < sum(swaps[-10:])
    assert all(space.architecture(vector) for vector in vectors)


def test_a_table_learns_how_long_whole_networks_take(monkeypatch) -> None:
    """Two slots take 10 ms each, the rest 1; the table thinks that a swap saves 5 of 20 ms."""

    def timed(networks, _batch, _runtime, patience):
        slow = [sum(isinstance(m, Slow) for m in network.modules()) for network in networks]
        return [[1.0 + 10.0 * count] * patience.repeats for count in slow]

    monkeypatch.setattr(whole_latencies, "timed_networks", timed)
    model, x = TinyResNet(), images(1)
    model.block1.conv1 = Slow(4, 4, 3, padding=1, bias=False)
    model.block1.conv2 = Slow(4, 4, 3, padding=1, bias=False)
    space = search_space(model, x, candidates=["depthwise3x3"])
    table = latencies(space, 20.0, lambda _, k: 10.0 - 5.0 * k)
    where = Deployment.choose(x, runtime="eager", device=torch.device("cpu"))
    found = anchored(table, space, [(1, 0, 0, 0), (1, 1, 0, 0)], model, where, patience=SHORT)
    assert [anchor.operations for anchor in found.anchors] == [
        {"block1.conv1": "depthwise3x3"},
        {"block1.conv1": "depthwise3x3", "block1.conv2": "depthwise3x3"},
    ]
    assert [anchor.share for anchor in found.anchors] == pytest.approx([11 / 21, 1 / 21])
    swapped = found.predicted(space.architecture((1, 1, 0, 0))).median
    assert swapped < table.predicted(space.architecture((1, 1, 0, 0))).median - 5
