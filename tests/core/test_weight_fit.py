import torch
from torch import nn

from refiner.core.weight_fit import best_fit, shape, shapes

WANTED = {"a.weight": (2,), "a.bias": (1,), "lazy": None}
STATE = {"a.weight": torch.zeros(2), "a.bias": torch.zeros(1), "lazy": torch.zeros(7)}


def test_shapes_of_a_model_and_of_what_has_none() -> None:
    assert shapes(nn.Linear(2, 3)) == {"weight": (3, 2), "bias": (3,)}
    assert shapes(nn.LazyLinear(3)) == {"weight": None, "bias": None}
    assert shape("extra state") is None


def test_the_prefix_is_chosen_by_which_most_fits() -> None:
    for prefix in ("", "x.", "module.y.z."):
        fit = best_fit({f"{prefix}{key}": value for key, value in STATE.items()}, WANTED)
        assert fit.whole
        assert set(fit.state) == set(WANTED)
    two = {f"{prefix}{key}": value for prefix in ("student.", "x.") for key, value in STATE.items()}
    two.pop("student.lazy")
    assert best_fit(two, WANTED).whole


def test_what_lacks_is_unknown_or_has_another_shape() -> None:
    fit = best_fit(
        {"m.a.weight": torch.zeros(3), "m.a.bias": torch.zeros(1), "m.b": torch.zeros(1)}, WANTED
    )
    assert not fit.whole
    assert (fit.fitting, fit.missing, fit.unknown) == (("a.bias",), ("lazy",), ("b",))
    assert fit.reshaped == ("a.weight",)


def test_versions_of_modules_move_with_their_names() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1))
    state = nn.Sequential(net).state_dict()
    fit = best_fit(state, shapes(net))
    assert fit.whole
    assert fit.state._metadata["0"] == {"version": 2}
