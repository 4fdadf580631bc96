from models import TinyResNet, images

from refiner.graph.slots import find_slots
from refiner.graph.tracing import trace
from refiner.space.admissible import admissible


def test_larger_candidates_and_equal_prunings_are_left_out() -> None:
    traced = trace(TinyResNet(width=4), images())
    slot = find_slots(traced).slots[0]
    names = ("conv5x5", "depthwise3x3", "keep0.5")
    assert admissible(slot, names, allow_larger=False) == ("depthwise3x3",)
    assert admissible(slot, names, allow_larger=True) == ("conv5x5", "depthwise3x3")
    group = next(slot for slot in find_slots(traced, "group").slots if slot.is_group)
    # Of 4 channels both ratios keep 2, and the smaller one is offered.
    assert admissible(group, ("keep0.625", "keep0.5"), allow_larger=False) == ("keep0.5",)
