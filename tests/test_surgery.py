import pytest
from torch import nn

from refiner.surgery import replace_modules


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
