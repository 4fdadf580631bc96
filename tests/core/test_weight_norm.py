import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from refiner.core.weight_norm import has_weight_norm, plain_copy, with_plain_weight


def old(conv: nn.Conv2d) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(conv)


class Padded(nn.Conv2d):
    """A subclass that stays one."""


@pytest.mark.parametrize("norm", [old, parametrizations.weight_norm])
@pytest.mark.parametrize("kind", [nn.Conv2d, Padded])
def test_a_plain_copy_computes_the_same_and_leaves_the_original(norm, kind: type) -> None:
    torch.manual_seed(0)
    conv, x = norm(kind(3, 4, 3)), torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        first = next(p for p in conv.parameters() if p.shape == (4, 1, 1, 1))
        first *= 2  # the lengths; the old one computes its weight at the next call
    assert has_weight_norm(conv)
    expected = conv(x)
    plain = plain_copy(conv)
    assert type(plain) is kind
    assert not has_weight_norm(plain)
    assert {name for name, _ in plain.named_parameters()} == {"weight", "bias"}
    assert torch.equal(plain(x), expected)
    assert plain.weight.requires_grad
    assert has_weight_norm(conv)
    assert torch.equal(conv(x), expected)
    assert torch.equal(copy.deepcopy(plain)(x), expected)


def test_frozen_weights_stay_frozen() -> None:
    conv = parametrizations.weight_norm(nn.Conv2d(3, 4, 3)).requires_grad_(False)
    assert not plain_copy(conv).weight.requires_grad


def test_other_modules_are_what_they_are() -> None:
    conv = nn.Conv2d(3, 4, 3)
    assert with_plain_weight(conv) is conv
    assert plain_copy(conv) is not conv
    spectral = parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))
    both = parametrizations.spectral_norm(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    bias = parametrizations.weight_norm(nn.Linear(3, 4), name="bias", dim=None)
    assert not any(map(has_weight_norm, (conv, spectral, both, bias)))
