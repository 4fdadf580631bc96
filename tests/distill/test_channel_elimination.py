import itertools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refiner.distill import channel_elimination
from refiner.distill.moments import Moments


def eliminate(weight, x, channels, widths, held_out=None):
    fit = moments(weight, x)
    held_out = fit if held_out is None else moments(weight, held_out)
    return channel_elimination.eliminate(weight, fit, held_out, channels, widths, centred=False)


def moments(weight, x):
    y = x @ weight.T
    n = len(x)
    return Moments(
        count=n, gram_FF=x.T @ x / n, cross_FC=x.T @ y / n, square_C=y.square().mean(0),
        mean_F=0 * x.mean(0), mean_C=0 * y.mean(0),
    )  # fmt: skip


def problem(channels: int, size: int, outputs: int, seed: int, rows: int = 400):
    """Features of which some are nearly sums of others, and a weight."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, channels * size, generator=generator, dtype=torch.float64)
    x[:, size : 2 * size] = x[:, :size] + 0.1 * x[:, size : 2 * size]
    weight = torch.randn(outputs, channels * size, generator=generator, dtype=torch.float64)
    return x, weight


def least_squares_error(x, weight, kept_features):
    """Error of the best weights for some features, over the variance, by torch's own solver.

    An output that hardly varies counts by a thousandth of the mean variance, as in ``eliminate``.
    """
    y = x @ weight.T
    variance = y.square().mean(0)
    variance = variance.clamp(min=1e-3 * float(variance.mean()))
    best = torch.linalg.lstsq(x[:, kept_features], y).solution
    off = x[:, kept_features] @ best - y
    return float((off.square().mean(0) / variance).mean())


def test_the_channel_whose_loss_costs_least_goes_first() -> None:
    x, weight = problem(channels=5, size=4, outputs=3, seed=0)
    (found,) = eliminate(weight, x, 5, [4]).values()
    errors = {}
    for kept in itertools.combinations(range(5), 4):
        features = [4 * c + k for c in kept for k in range(4)]
        errors[kept] = least_squares_error(x, weight, features)
    best = min(errors, key=errors.__getitem__)
    assert tuple(found.kept.tolist()) == best
    assert found.error == pytest.approx(errors[best], rel=1e-2)
    unread = [c for c in range(5) if c not in best]
    assert not found.weight_OF.unflatten(1, (5, 4))[:, unread].any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from([1, 3]))
@example(seed=2023, channels=2, size=1)  # one output hardly varies
def test_the_weights_at_each_width_are_the_best_for_what_is_kept(seed, channels, size) -> None:
    x, weight = problem(channels, size, 2, seed)
    found = eliminate(weight, x, channels, range(1, channels + 1))
    assert sorted(found) == list(range(1, channels + 1))
    before = 0.0
    for width in range(channels, 0, -1):
        reduced = found[width]
        features = [size * c + k for c in reduced.kept.tolist() for k in range(size)]
        expected = least_squares_error(x, weight, features)
        assert reduced.error == pytest.approx(expected, rel=1e-2, abs=1e-4)
        assert reduced.error >= before - 1e-6
        before = reduced.error
    assert torch.allclose(found[channels].weight_OF, weight, atol=1e-3)


def test_a_channel_that_is_silent_goes_at_no_cost() -> None:
    x, weight = problem(channels=4, size=9, outputs=6, seed=1)
    x[:, 18:27] = 0
    found = eliminate(weight, x, 4, [3])[3]
    assert found.kept.tolist() == [0, 1, 3]
    assert found.error < 1e-5


def test_wide_convs_drop_several_channels_at_a_time_and_hardly_lose_by_it(monkeypatch) -> None:
    x, weight = problem(channels=32, size=4, outputs=8, seed=3, rows=4000)
    errors = []
    for blocks in (64, 8):
        monkeypatch.setattr(channel_elimination, "_BLOCKS", blocks)
        found = eliminate(weight, x, 32, [27, 16])
        assert [len(found[n].kept) for n in (27, 16)] == [27, 16]
        assert set(found[16].kept.tolist()) < set(found[27].kept.tolist())
        errors.append(found[16].error)
    assert errors[0] != errors[1]
    assert errors[1] < 1.1 * errors[0]


def test_rows_held_out_give_the_error_and_all_rows_the_weights() -> None:
    x, weight = problem(channels=6, size=3, outputs=4, seed=5, rows=30)
    held_out, _ = problem(channels=6, size=3, outputs=4, seed=6, rows=3000)
    found = eliminate(weight, x, 6, [3], held_out)[3]
    assert found.error > 1.3 * found.fit_error  # ten rows for a feature, and noise
    features = [3 * c + k for c in found.kept.tolist() for k in range(3)]
    every = torch.cat([x, held_out])
    expected = torch.linalg.lstsq(every[:, features], every @ weight.T).solution.T
    off = found.weight_OF[:, features] - expected
    few = torch.linalg.lstsq(x[:, features], x @ weight.T).solution.T
    assert off.norm() < 0.2 * (few - expected).norm()


def test_each_width_has_the_ridge_that_is_best_for_it() -> None:
    """Two of six channels are copies, and few rows have the others to shrink."""
    x, weight = problem(channels=6, size=2, outputs=4, seed=7, rows=14)
    held_out, _ = problem(channels=6, size=2, outputs=4, seed=8, rows=3000)
    for each in (x, held_out):
        each[:, 8:] = each[:, 4:8]
    found = eliminate(weight, x, 6, [2, 4], held_out)
    assert found[4].error < 1e-4 < found[2].error
    assert found[4].error == pytest.approx(eliminate(weight, x, 6, [4], held_out)[4].error)
    assert found[2].error == pytest.approx(eliminate(weight, x, 6, [2], held_out)[2].error)
