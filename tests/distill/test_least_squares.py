from dataclasses import replace

import pytest
import torch

from refiner.distill.least_squares import RIDGES, best_ridge, mean_error, ridged, solve
from refiner.distill.moments import MomentSums
from refiner.training.devices import Devices

DEVICES = Devices.choose("cpu", "no")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def moments(features, targets):
    sums = MomentSums("conv")
    sums.add(features.clone(), targets.clone())
    return sums.take(DEVICES)


def test_a_target_that_hardly_varies_counts_by_the_mean_variance() -> None:
    error = torch.tensor([1.0, 1.0, 0.0])
    variance = torch.tensor([4.0, 0.0, 2.0])  # on average 2, a thousandth counts
    assert mean_error(error, variance) == pytest.approx((1 / 4 + 1 / 0.002 + 0) / 3)


def test_means_are_free_where_a_norm_or_a_bias_follows() -> None:
    x = torch.randn(500, 3)
    y = x @ torch.randn(3, 2) + 5
    assert solve(moments(x, y), moments(x, y), centred=True).error < 1e-6
    assert solve(moments(x, y), moments(x, y), centred=False).error > 1


@pytest.mark.parametrize(("rows", "noise"), [(12, 1.0), (2000, 0.0)])
def test_few_noisy_rows_shrink_to_the_prior_and_many_do_not(rows: int, noise: float) -> None:
    prior = torch.randn(10, 3)
    truth = prior + 0.3 * torch.randn(10, 3)
    parts = []
    for count in (rows, 4000):
        x = torch.randn(count, 10)
        parts.append(moments(x, x @ truth + noise * torch.randn(count, 3)))
    found = solve(*parts, prior.double(), centred=True)
    assert (found.ridge >= RIDGES[-1]) == (rows == 12)
    assert found.error > found.fit_error - 1e-6
    if not noise:
        assert torch.allclose(found.weight_FC.float(), truth, atol=1e-3)
        assert found.error < 1e-5  # of float32 products


def test_the_weights_are_those_of_all_rows() -> None:
    x = torch.randn(80, 3)
    y = x @ torch.randn(3, 2) + 0.3 * torch.randn(80, 2)
    found = solve(moments(x[:60], y[:60]), moments(x[60:], y[60:]), centred=False)
    gram = x.T @ x / 80
    ridge = found.ridge * gram.diagonal().mean() * torch.eye(3)
    expected = torch.linalg.solve(gram + ridge, x.T @ y / 80).double()
    assert torch.allclose(found.weight_FC, expected, atol=1e-5)


def test_the_search_for_a_ridge_ends_at_the_first_rise() -> None:
    asked = []

    def error(ridge: float) -> float:
        asked.append(ridge)
        return abs(ridge - 2.0)

    assert best_ridge(error, (1.0, 2.0, 3.0, 4.0)) == (2.0, 0.0)
    assert asked == [1.0, 2.0, 3.0]


def test_the_ridge_is_raised_where_dependent_features_would_have_no_factor() -> None:
    few = torch.randn(3, 40)
    fit = moments(few, few[:, :2])
    broken = replace(fit, gram_FF=fit.gram_FF - 1e-3 * torch.eye(40))  # as by rounding
    equations = ridged(broken, 1e-5, None)
    factor = equations.factor_FF
    assert torch.allclose(factor @ factor.T, equations.left_FF)
    assert 1e-3 < equations.amount < 0.1
    assert ridged(fit, 1e-2, None).amount == 1e-2 * fit.gram_FF.diagonal().mean()


@pytest.mark.parametrize("prior", [False, True])
def test_the_error_of_a_solution_follows_from_the_equations(prior: bool) -> None:
    x = torch.randn(200, 6)
    fit = moments(x, x @ torch.randn(6, 3) + torch.randn(200, 3))
    equations = ridged(fit, 0.1, torch.randn(6, 3).double() if prior else None)
    weight = torch.cholesky_solve(equations.right_FC, equations.factor_FF)
    assert torch.allclose(equations.error(weight), fit.error(weight), rtol=1e-12)
