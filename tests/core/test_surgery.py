import threading
import warnings

import pytest
import torch
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.surgery import copied, replace_modules


def test_a_module_under_two_names_is_replaced_under_both() -> None:
    shared = nn.Linear(2, 2)
    root = nn.ModuleDict({"a": nn.Sequential(shared), "b": shared})
    new = nn.Identity()
    replace_modules(root, {"a.0": new})
    assert root["a"][0] is new
    assert root["b"] is new


def test_two_modules_may_change_places() -> None:
    root = nn.Sequential(nn.ReLU(), nn.Tanh())
    first, second = root[0], root[1]
    replace_modules(root, {"0": second, "1": first})
    assert (root[0], root[1]) == (second, first)


def test_a_missing_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        replace_modules(nn.Sequential(), {"0": nn.ReLU()})


def test_weight_norm_of_either_kind_and_spectral_norm_are_copied_whole() -> None:
    for wrap in (
        torch.nn.utils.weight_norm,
        torch.nn.utils.parametrizations.weight_norm,
        torch.nn.utils.parametrizations.spectral_norm,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = nn.Sequential(wrap(nn.Conv2d(3, 4, 3))).eval()
        x = torch.ones(1, 3, 8, 8)
        twin = copied(model)
        assert torch.equal(twin(x), model(x))
        for parameter in twin.parameters():
            parameter.data.zero_()
        assert model(x).abs().sum() > 0


def test_a_lazy_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"0\.weight has no shape yet"):
        copied(nn.Sequential(nn.LazyConv2d(3, 3)))


def test_feature_maps_that_a_forward_keeps_are_copied() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            self.maps = [self.conv(x)]
            self.by_name = {"one": (self.maps[0],)}
            return self.maps[0]

    model, x = Keeps(), torch.ones(1, 3, 4, 4)
    model(x)
    twin = copied(model)
    assert torch.equal(twin.maps[0], model.maps[0])
    assert twin.maps[0] is not model.maps[0]
    assert twin.by_name["one"][0] is twin.maps[0]


def test_an_attribute_that_cannot_be_copied_is_named() -> None:
    model = nn.Sequential(nn.ReLU())
    model[0].lock = threading.Lock()
    with pytest.raises(ModelError, match=r"cannot be copied, since Sequential\.0\.lock \(a lock\)"):
        copied(model)
