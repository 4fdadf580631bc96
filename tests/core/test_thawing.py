import pytest
import torch
from models import TinyResNet, batches, images
from torch import nn

import refiner
from refiner.core.errors import ModelError
from refiner.core.thawing import NOTE, is_frozen, thawed
from refiner.space.supernet import Supernet


def test_a_model_of_which_nothing_takes_a_gradient_is_thawed_as_a_copy() -> None:
    model = TinyResNet().requires_grad_(False)
    copy = thawed(model)
    assert is_frozen(model)
    assert all(p.requires_grad for p in copy.parameters())
    some = TinyResNet()
    some.stem.requires_grad_(False)
    assert thawed(some) is some
    assert not is_frozen(nn.ReLU())
    counter = nn.Module()
    counter.steps = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    assert not is_frozen(counter)


def test_a_checkpoint_of_a_trainer_has_the_slots_of_the_model_and_is_trained() -> None:
    model, x = TinyResNet().requires_grad_(False), images()
    space = refiner.search_space(model, x)
    assert space.slots == refiner.search_space(TinyResNet(), x).slots
    network = refiner.rewrite(model, space.architecture([1] * len(space.slots)))
    assert all(p.requires_grad for p in network.parameters())
    emitted = Supernet(model, space).emit((1,) * len(space.slots))
    assert all(p.requires_grad for p in emitted.parameters())
    result = refiner.refine(
        model, batches(2), batches(1), budget="macs=80%", progress=False, baselines=False,
        distill=refiner.DistillConfig(steps=1), refit=refiner.RefitConfig(steps=0),
        search=refiner.SearchConfig(epochs=1, warmup_epochs=0, trials=2, samples=1, train_weights=False, top_k=1, front=0),
        train=refiner.TrainConfig(epochs=1, lr_max=0.01),
    )  # fmt: skip
    assert NOTE in result.report.notes
    assert is_frozen(model)
    assert not torch.equal(result.model.fc.weight, model.fc.weight)


def test_where_the_convs_alone_take_no_gradient_the_cure_is_named() -> None:
    model = TinyResNet()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.requires_grad_(False)
    with pytest.raises(ModelError, match=r"x its parameters take no gradient.*requires_grad_\(\)"):
        refiner.search_space(model, images())
