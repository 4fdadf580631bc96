import numpy as np
import pytest

from refiner.search.effects import Effects, one_swap, tau


def test_losses_by_hand() -> None:
    # Slots of 2 and 3 candidates; products of swaps with gradients are 1, 2 and -3.
    products = np.array([0.0, 1, 0, 2, -3])
    added = np.array([0, -0.25, 0, -0.125, -0.5])
    effects = Effects(sizes=(2, 3), gram_JJ=np.outer(products, products), added_J=added)
    assert effects.weights((0, 0)) == 1
    assert effects.weights((1, 2)) == 0.25
    assert effects.loss((0, 0)) == 0
    assert effects.loss((1, 0)) == effects.single(0, 1) == pytest.approx(0.5)
    assert effects.loss((1, 1)) == pytest.approx((1 + 2) ** 2 / 2)
    assert effects.loss((1, 2)) == pytest.approx((1 - 3) ** 2 / 2)
    assert effects.ranked() == [(0, 1), (1, 1), (1, 2)]


def test_one_swap() -> None:
    assert one_swap(3, 1, 4) == (0, 4, 0)


def test_tau_of_rankings() -> None:
    assert tau([1, 2, 3], [10, 20, 30]) == 1
    assert tau([1, 2, 3], [3, 2, 1]) == -1
    assert tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
