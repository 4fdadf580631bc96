import pytest
import torch

from refiner.training.dense_maps import (
    classes_apart,
    draw_classes,
    draw_signs,
    log_odds,
    seen_by,
)

GENERATOR = torch.Generator().manual_seed(0)
Z = torch.randn(2, 3, 5, generator=GENERATOR, dtype=torch.float64)


def test_seen_is_the_surest_class_and_the_sum_is_one_at_least() -> None:
    seen, number = seen_by(Z)
    assert torch.equal(seen, Z.sigmoid().max(dim=1).values)
    assert number == seen.sum()
    assert seen_by(Z - 50)[1] == 1


def test_the_divergence_is_that_of_coins() -> None:
    ours, theirs = Z, Z.flip(0)
    p, q = (torch.distributions.Bernoulli(logits=z) for z in (theirs, ours))
    torch.testing.assert_close(classes_apart(ours, theirs), torch.distributions.kl_divergence(p, q))


def test_draws_have_the_moments_that_estimate_it() -> None:
    many = Z.expand(4000, *Z.shape)
    drawn = draw_classes(many, torch.Generator().manual_seed(1))
    share = Z.sigmoid()
    torch.testing.assert_close(drawn.mean(0), torch.zeros_like(Z), atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.square().mean(0), share * (1 - share), atol=0.03, rtol=0)
    signs = draw_signs(torch.Size((50,)), torch.Generator().manual_seed(1))
    assert {round(float(s), 4) for s in signs} == {1.4142, -1.4142}


def test_log_odds_are_those_of_a_softmax_and_stay_finite() -> None:
    share = Z.softmax(-1)
    torch.testing.assert_close(log_odds(Z), (share / (1 - share)).log())
    sure = torch.tensor([[100.0, 0.0, -1.0]], requires_grad=True)
    odds = log_odds(sure)
    assert odds[0, 0].item() == pytest.approx(100 - torch.tensor([0.0, -1.0]).logsumexp(0).item())
    odds.sum().backward()
    assert bool(sure.grad.isfinite().all())
