import argparse
import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.weights import load_weights


def net(classes: int = 4, channels: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8),
        nn.Flatten(), nn.Linear(8, classes),
    )  # fmt: skip


STATE = net().state_dict()


def under(prefix: str, state=STATE) -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()}


class Inside(nn.Module):
    """Compiles a part of itself, so that the wrapper's name stands inside the path."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Conv2d(3, 2, 1)


FITTING = {
    "plain": STATE,
    "DataParallel": under("module."),
    "torch.compile": under("_orig_mod."),
    "compiled in DDP": under("module._orig_mod."),
    "DDP of a compiled one": under("_orig_mod.module."),
    "model.": under("model."),
    "net.": under("net."),
    "a prefix of one's own": under("detector.stage_1.backbone."),
    "state_dict": {"state_dict": under("module."), "epoch": 3, "best": 0.5},
    "model": {"model": STATE, "optimizer": {"state": {}, "param_groups": []}},
    "ema alone": {"ema": {"module": STATE}, "step": 1},
    "Lightning": {
        "state_dict": under("model.") | {"criterion.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1},
        "callbacks": {},
    },
    "without counters, as before torch 0.4.1": {
        key: value for key, value in under("module.").items() if "num_batches" not in key
    },
    "half precision": {key: value.half() for key, value in under("model.").items()},
}


@pytest.mark.parametrize("name", list(FITTING))
def test_containers_and_prefixes(name: str, tmp_path) -> None:
    torch.save(FITTING[name], tmp_path / "w.pt")
    model = net()
    assert not torch.equal(model[0].weight, STATE["0.weight"])
    load_weights(model, tmp_path / "w.pt")
    for key, value in model.state_dict().items():
        if "num_batches" not in key:
            assert torch.allclose(value, STATE[key], atol=1e-3), key


def test_a_wrapper_inside_the_path_and_one_that_the_network_has_itself(tmp_path) -> None:
    one, two = Inside(), Inside()
    state = {key.replace("part.", "part._orig_mod."): v for key, v in one.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    load_weights(two, tmp_path / "w.pt")
    assert torch.equal(one.part.weight, two.part.weight)
    wrapped = nn.DataParallel(net())
    torch.save(under("module."), tmp_path / "w.pt")
    load_weights(wrapped, tmp_path / "w.pt")
    assert torch.equal(wrapped.module[0].weight, STATE["0.weight"])


def test_of_weights_and_their_average_the_weights_are_taken(tmp_path) -> None:
    averaged = {key: value + 1 for key, value in STATE.items()}
    torch.save({"model_ema": averaged, "model": STATE}, tmp_path / "w.pt")
    model = net()
    load_weights(model, tmp_path / "w.pt")
    assert torch.equal(model[0].weight, STATE["0.weight"])


MISFITS = {
    "a list": ([1, 2], "holds no weights, but a list of 2"),
    "a tensor": (torch.ones(2, 3), "one tensor of 2x3"),
    "numbers": ({"epoch": 1, "lr": 0.1}, "a dict of epoch, lr"),
    "nothing": ({}, "an empty dict"),
    "other classes": (net(classes=10).state_dict(), "they have 10 classes and the network has 4"),
    "other classes below a prefix": (under("module.", net(10).state_dict()), "have 10 classes"),
    "other channels": (net(channels=1).state_dict(), "1 input channels there and 3 here"),
    "another network": (
        nn.Sequential(nn.Linear(1, 1)).state_dict() and {"a.b": torch.ones(1)},
        "of another network",
    ),
    "half": (
        {k: v for k, v in STATE.items() if not k.startswith("2")} | {"x": torch.ones(1)},
        r"14 of 16 tensors of this network fit; 2 are missing in the file \(2.weight, 2.bias\); "
        r"1 is unknown here \(x\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(MISFITS))
def test_what_does_not_fit_is_told_and_leaves_the_model_as_it_is(name: str, tmp_path) -> None:
    content, message = MISFITS[name]
    torch.save(content, tmp_path / "w.pt")
    model = net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(model, tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_whole_model_and_the_arguments_of_its_training_are_read_where_trusted(tmp_path) -> None:
    for content in (net(), {"model": net(), "args": argparse.Namespace(lr=0.1)}):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(ModelError, match="--trust-weights"):
            load_weights(net(), tmp_path / "w.pt")
        model = net()
        load_weights(model, tmp_path / "w.pt", trust=True)
        saved = content if isinstance(content, nn.Module) else content["model"]
        assert torch.equal(model[0].weight, saved[0].weight)


def test_a_model_that_renames_older_keys_itself(tmp_path) -> None:
    class Renames(nn.Conv2d):
        def _load_from_state_dict(self, state, prefix, *more) -> None:
            if f"{prefix}old" in state:
                state[f"{prefix}weight"] = state.pop(f"{prefix}old")
            super()._load_from_state_dict(state, prefix, *more)

    model = Renames(1, 1, 1, bias=False)
    torch.save({"old": torch.full((1, 1, 1, 1), 3.0)}, tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")
    assert model.weight.item() == 3


def test_a_file_without_versions_is_of_the_present_one(tmp_path) -> None:
    class Changed(nn.Conv2d):
        """Reads weights of its first version in another way, as torchvision's MNASNet does."""

        _version = 2

        def _load_from_state_dict(self, state, prefix, metadata, *more) -> None:
            if metadata.get("version", 1) < 2:
                state[f"{prefix}weight"] = state[f"{prefix}weight"] + 1
            super()._load_from_state_dict(state, prefix, metadata, *more)

    saved, model = Changed(1, 1, 1), Changed(1, 1, 1)
    save_file(saved.state_dict(), tmp_path / "w.safetensors")
    load_weights(model, tmp_path / "w.safetensors")
    assert torch.equal(model.weight, saved.weight)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_weights_of_no_real_numbers_are_refused(tmp_path, dtype) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    before = model[0].weight.clone()
    with pytest.raises(
        ModelError, match=f"0.weight of .* is {str(dtype)[6:]}, and the network's is"
    ):
        load_weights(model, tmp_path / "w.pt")
    assert torch.equal(model[0].weight, before)
    torch.save({k: v.half() for k, v in model.state_dict().items()}, tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")


def test_one_missing_weight_is_told_in_the_singular(tmp_path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    torch.save({k: v for k, v in model.state_dict().items() if k != "1.bias"}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"1 is missing in the file \(1.bias\)"):
        load_weights(model, tmp_path / "w.pt")
