import torch
from models import TinyResNet, images
from sleepers import Slow
from torch import nn

from refiner.cost.deployment import Deployment
from refiner.cost.latency_table import LatencyTable
from refiner.cost.slot_latencies import latency_table
from refiner.runtimes.timing import Patience
from refiner.space.search_space import SearchSpace, search_space

SHORT = Patience(repeats=6, most=6, warm_up=1)


def table_of(
    space: SearchSpace, model: nn.Module, x: torch.Tensor, runtime: str = "eager"
) -> LatencyTable:
    where = Deployment.choose(x, runtime=runtime, device=torch.device("cpu"), batch=len(x))
    return latency_table(space, model, where, anchors=2, patience=SHORT, whole_patience=SHORT)


def test_each_candidate_is_timed_in_its_slot_beside_the_original() -> None:
    model, x = TinyResNet().train(), images(3)
    model.block1.conv1 = Slow(4, 4, 3, padding=1, bias=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    space = search_space(model, x, candidates=["depthwise3x3", "avgpool3x3"])
    table = table_of(space, model, x)
    rows = table.rows(space)
    assert [len(row) for row in rows] == [3] * 4
    assert all(each.noise >= 0 for row in rows for each in row)
    assert table.model.median > 10
    assert (table.conditions.batch, len(table.anchors)) == (3, 2)
    # The sleep is in one slot's original alone, so that its candidates save it.
    sleepy, *others = table.slots["block1.conv1"].values()
    assert sleepy.median > 10 > max(each.median for each in others)
    assert table.changes["block1.conv1"]["avgpool3x3"][1] < 0
    assert not table.slower("block1.conv1", "avgpool3x3")
    assert all(m.training for m in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_groups_are_timed_in_onnxruntime_each_kind_once(monkeypatch) -> None:
    model, x = nn.Sequential(TinyResNet(width=8).stem, *(block() for _ in range(2))), images()
    space = search_space(model, x, granularity="group")
    table = table_of(space, model, x, "onnxruntime")
    first, second = (slot.name for slot in space.slots)
    assert table.kinds == {first: first, second: first}
    assert table.slots[first] == table.slots[second]
    assert {"keep0.5", "no_branch", "depthwise3x3"} <= set(table.slots[first])
    assert all(each.median > 0 for each in table.slots[first].values())


def block() -> nn.Module:
    return TinyResNet(width=8).block1


def test_the_precision_that_is_asked_for_is_the_one_that_is_timed(monkeypatch) -> None:
    model, x = TinyResNet(), images(1)
    space = search_space(model, x, candidates=["depthwise3x3"])
    seen = []
    forward = nn.Conv2d.forward

    def noted(self, x):
        seen.append(forward(self, x).dtype)
        return forward(self, x)

    monkeypatch.setattr(nn.Conv2d, "forward", noted)
    where = Deployment.choose(x, runtime="eager", device=torch.device("cpu"), precision="bf16")
    short = Patience(repeats=1, most=1, warm_up=1)
    table = latency_table(space, model, where, anchors=1, patience=short, whole_patience=short)
    assert table.conditions.precision == "bf16"
    assert seen.count(torch.bfloat16) > len(seen) / 2
