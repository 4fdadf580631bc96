import itertools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from refiner.distill.channel_elimination import eliminate, patches
from refiner.graph.conv_spec import conv_spec


def problem(channels: int, size: int, outputs: int, seed: int, rows: int = 400):
    """Features of which some are nearly sums of others, and a weight."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, channels * size, generator=generator, dtype=torch.float64)
    x[:, size : 2 * size] = x[:, :size] + 0.1 * x[:, size : 2 * size]
    weight = torch.randn(outputs, channels * size, generator=generator, dtype=torch.float64)
    return x, weight, x.T @ x / rows


def variances(weight, moment):
    return (weight @ moment * weight).sum(1)


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
    x, weight, moment = problem(channels=5, size=4, outputs=3, seed=0)
    (found,) = eliminate(weight, moment, variances(weight, moment), 5, [4]).values()
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
    x, weight, moment = problem(channels, size, 2, seed)
    found = eliminate(weight, moment, variances(weight, moment), channels, range(1, channels + 1))
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
    x, weight, _ = problem(channels=4, size=9, outputs=6, seed=1)
    x[:, 18:27] = 0
    moment = x.T @ x / len(x)
    found = eliminate(weight, moment, variances(weight, moment), 4, [3])[3]
    assert found.kept.tolist() == [0, 1, 3]
    assert found.error < 1e-5


CONVS = {
    "plain": nn.Conv2d(3, 4, 3, padding=1, bias=False),
    "strided": nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
    "dilated": nn.Conv2d(3, 4, 3, dilation=2, bias=False),
    "long": nn.Conv2d(3, 4, (1, 5), padding=(0, 2), bias=False),
    "reflecting": nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect", bias=False),
    "same": nn.Conv2d(3, 4, 4, padding="same", bias=False),
    "pointwise": nn.Conv2d(3, 4, 1, bias=False),
    "1d": nn.Conv1d(3, 4, 3, stride=2, bias=False),
    "3d": nn.Conv3d(3, 4, 2, padding=1, bias=False),
}


@pytest.mark.parametrize("name", CONVS)
def test_patches_are_what_a_conv_reads(name: str) -> None:
    conv = CONVS[name]
    x = torch.randn(2, 3, *[7] * (conv.weight.dim() - 2))
    rows = patches(x, conv_spec(conv), 10**9, torch.Generator())
    expected = conv(x).movedim(1, -1).flatten(0, -2)
    assert torch.allclose(rows @ conv.weight.flatten(1).T, expected, atol=1e-5)


def test_so_many_patches_are_drawn_and_by_the_generator_alone() -> None:
    conv, x = CONVS["plain"], torch.randn(2, 3, 9, 9)

    def drawn(seed: int) -> torch.Tensor:
        return patches(x, conv_spec(conv), 20, torch.Generator().manual_seed(seed))

    everything = patches(x, conv_spec(conv), 10**9, torch.Generator())
    assert drawn(0).shape == (20, 27)
    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert all((everything == row).all(1).any() for row in drawn(0))
