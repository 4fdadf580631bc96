import pytest
import torch
from refiner.recipes.lresnet50e_ir_faces import build_model

from refiner.cost import measure_cost
from refiner.rewriting import rewrite
from refiner.space import search_space


def test_lresnet50e_ir_and_the_row_of_the_paper() -> None:
    model, x = build_model(), torch.zeros(1, 3, 112, 112)
    before = measure_cost(model, x)
    assert before.params == pytest.approx(4.35e7, rel=0.005)
    assert before.macs == pytest.approx(6.32e9, rel=0.005)
    space = search_space(model, x, granularity="block")
    assert len(space.slots) == 24
    assert {len(slot.sites) for slot in space.slots} == {2}
    vector = (0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 2, 2, 1, 0, 1, 0)
    after = measure_cost(rewrite(model, space.architecture(vector)), x)
    assert after.params == pytest.approx(3.38e7, rel=0.01)
    assert after.macs == pytest.approx(4.69e9, rel=0.01)
