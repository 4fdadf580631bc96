import pytest
from torch import nn

from refiner.core.modes import mode


@pytest.mark.parametrize("training", [True, False])
def test_every_submodule_gets_its_own_mode_back_also_after_an_error(training: bool) -> None:
    model = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Dropout()))
    model[1].eval()
    before = [child.training for child in model.modules()]

    def fail() -> None:
        with mode(model, training):
            assert {child.training for child in model.modules()} == {training}
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert [child.training for child in model.modules()] == before
