import pytest
import torch

from refiner.core.errors import TrainingError
from refiner.distill.moments import MomentSums
from refiner.training.devices import Devices

DEVICES = Devices.choose("cpu", "no")


def moments(features, targets, pieces=(None,)):
    sums = MomentSums("conv")
    for piece in pieces:
        part = slice(piece) if not isinstance(piece, slice) else piece
        sums.add(features[part].clone(), targets[part].clone())
    return sums.take(DEVICES)


def test_moments_are_means_of_products_also_far_from_zero() -> None:
    x, y = 1000 + torch.randn(300, 5), 500 + torch.randn(300, 2)
    found = moments(x, y, [slice(0, 100), slice(100, 300)])
    assert found.count == 300
    both = torch.cat([x, y], 1).double()
    assert torch.allclose(found.gram_FF, both[:, :5].T @ both[:, :5] / 300, rtol=1e-9)
    covariance = both.T.cov(correction=0)
    centred = found.centred()
    assert torch.allclose(centred.gram_FF, covariance[:5, :5], atol=1e-5)
    assert torch.allclose(centred.cross_FC, covariance[:5, 5:], atol=1e-5)
    assert torch.allclose(centred.square_C, covariance.diagonal()[5:], atol=1e-5)
    assert torch.allclose(centred.mean_F, both.mean(0)[:5])


def test_products_in_blocks_give_the_whole_gram(monkeypatch) -> None:
    x, y = torch.randn(50, 7), torch.randn(50, 2)
    whole = moments(x, y)
    monkeypatch.setattr("refiner.distill.moments._BLOCK", 3)
    assert torch.allclose(moments(x, y).gram_FF, whole.gram_FF, atol=1e-6)


def test_moments_of_two_parts_are_those_of_all_rows() -> None:
    x, y = torch.randn(90, 4), torch.randn(90, 2)
    both = moments(x[:30], y[:30]).with_rows(moments(x[30:], y[30:]))
    for name in ("gram_FF", "cross_FC", "square_C", "mean_F", "mean_C", "count"):
        found, expected = (torch.as_tensor(getattr(m, name)) for m in (both, moments(x, y)))
        assert torch.allclose(found, expected, atol=1e-6)


def test_the_error_of_weights_for_all_features_and_for_the_first() -> None:
    x, y = torch.randn(60, 4), torch.randn(60, 2)
    weight = torch.randn(4, 2, dtype=torch.float64)
    for n in (4, 3):
        expected = (x[:, :n].double() @ weight[:n] - y).square().mean(0)
        assert torch.allclose(moments(x, y).error(weight[:n]), expected, atol=1e-5)


def test_what_is_not_finite_is_refused() -> None:
    for x, y in ((float("inf"), 1.0), (1.0, float("nan"))):
        with pytest.raises(TrainingError, match="the output of conv is not finite"):
            moments(torch.full((3, 2), x), torch.full((3, 1), y))
