import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_curve
from torch import nn

from refiner.core.errors import ConfigError, DataError
from refiner.faces.verification import Pairs, embed, tar_at_far, verification, verify

HALF = torch.tensor([0.5])
CPU = torch.device("cpu")


class Flat(nn.Module):
    """Gives the pixels, and counts the images it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.modes = [], set()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        self.seen.append(len(x))
        self.modes.add((self.training, self.drop.training, torch.is_grad_enabled()))
        return self.drop(x.flatten(1))


def random_images(count, seed=0, size=(3, 4, 4)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *size), dtype=torch.uint8, generator=generator)


def by_hand(similarity, same, folds):
    """The protocol as it is told, with loops."""
    accuracies, thresholds = [], []
    for fold in sorted(set(folds)):
        inside = [i for i in range(len(same)) if folds[i] == fold]
        others = [i for i in range(len(same)) if folds[i] != fold] or inside
        best = max(
            [similarity[i] for i in others] + [math.inf],
            key=lambda t: (sum((similarity[i] >= t) == same[i] for i in others), t),
        )
        thresholds.append(best)
        accuracies.append(np.mean([(similarity[i] >= best) == same[i] for i in inside]))
    return accuracies, thresholds


def test_two_folds_by_hand() -> None:
    # Best on the second fold is 0.5 (all three right); on the first 0.9 and 0.4 get two of three right.
    similarity = np.array([0.9, 0.6, 0.4, 0.5, 0.7, 0.2])
    same = np.array([True, False, True, True, True, False])
    folds = np.array([0, 0, 0, 1, 1, 1])
    result = verify(similarity, same, folds)
    assert result.thresholds == (0.5, 0.9)
    assert result.fold_accuracies == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert result.accuracy == pytest.approx(1 / 3)
    assert result.std == 0


def test_mean_and_deviation_over_folds_of_different_sizes() -> None:
    similarity = np.array([0.9, 0.1, 0.9, 0.1, 0.1, 0.9])
    same = np.array([True, False, True, False, True, False])
    result = verify(similarity, same, np.array([5, 5, 5, 5, 7, 7]))
    assert result.fold_accuracies == (0.5, 0)  # seven's pairs make infinity the best for five
    assert result.thresholds == (math.inf, 0.9)
    assert (result.accuracy, result.std) == (0.25, 0.25)


def test_ties_share_one_side_of_a_threshold() -> None:
    similarity = np.array([0.5, 0.5, 0.5, 0.1])
    same = np.array([True, True, False, False])
    result = verify(similarity, same, np.zeros(4, dtype=np.int64))
    assert result.thresholds == (0.5,)
    assert result.accuracy == 0.75  # a threshold within the tie would get all right


def test_one_fold_takes_its_own_threshold() -> None:
    result = verify(np.array([3.0, 2.0]), np.array([True, False]), np.zeros(2))
    assert (result.accuracy, result.std, result.thresholds) == (1, 0, (3.0,))


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.booleans(), st.integers(0, 9)), min_size=2, max_size=40
    )
)
@settings(max_examples=200, deadline=None)
def test_the_protocol_is_that_told_with_loops(pairs) -> None:
    similarity, same, folds = (list(column) for column in zip(*pairs))
    if len(set(same)) < 2:
        return
    accuracies, thresholds = by_hand(similarity, same, folds)
    result = verify(np.array(similarity), np.array(same), np.array(folds))
    assert result.fold_accuracies == pytest.approx(accuracies)
    assert result.thresholds == tuple(thresholds)
    assert result.accuracy == pytest.approx(np.mean(accuracies))
    assert result.std == pytest.approx(np.std(accuracies))


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_and_rates_are_those_of_scikit_learn(seed) -> None:
    generator = np.random.default_rng(seed)
    same = generator.random(600) < 0.4
    similarity = (generator.normal(size=600) + same).round(1)  # with ties
    folds = np.repeat(np.arange(10), 60)
    result = verify(similarity, same, folds)
    for fold, (threshold, accuracy) in enumerate(zip(result.thresholds, result.fold_accuracies)):
        inside = folds == fold
        assert accuracy == accuracy_score(same[inside], similarity[inside] >= threshold)
        rates = roc_curve(same[~inside], similarity[~inside], drop_intermediate=False)
        positive, negative = same[~inside].sum(), (~same[~inside]).sum()
        best = (rates[1] * positive + (1 - rates[0]) * negative).max()
        right = ((similarity[~inside] >= threshold) == same[~inside]).sum()
        assert right == pytest.approx(best)
    false, true, _ = roc_curve(same, similarity, drop_intermediate=False)
    for far in (0, 0.001, 0.01, 0.1, 0.5, 1):
        assert tar_at_far(similarity, same, far) == pytest.approx(true[false <= far].max())


def test_true_accept_rate_by_hand() -> None:
    similarity = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    same = np.array([True, False, True, True, False, False])
    assert tar_at_far(similarity, same, 0) == pytest.approx(1 / 3)
    assert tar_at_far(similarity, same, 0.33) == pytest.approx(1 / 3)
    assert tar_at_far(similarity, same, 1 / 3) == 1
    tied = np.array([0.9, 0.9, 0.9, 0.6, 0.5, 0.4])
    assert tar_at_far(tied, same, 0) == 0
    assert tar_at_far(np.arange(200.0), np.arange(200) < 100, 0.29) == 0


def test_a_rate_is_compared_as_it_is_written() -> None:
    # 29 of 100 different pairs lie above the same pair, and 0.29 * 100 is below 29.
    similarity = np.append(np.arange(100.0), 70.5)
    same = np.arange(101) == 100
    assert tar_at_far(similarity, same, 0.29) == 1
    assert tar_at_far(similarity, same, 0.28) == 0


def test_pairs_that_tell_nothing_are_refused() -> None:
    none, one = np.array([]), np.array([1.0, 2.0])
    for similarity, same, message in (
        (none, none.astype(bool), "no pairs"),
        (one, np.array([True, True]), "all 2 pairs are the same"),
        (one, np.array([False, False]), "all 2 pairs are different"),
        (np.array([1.0, np.nan]), np.array([True, False]), "pair 1 is nan"),
        (one, np.array([True]), r"shape \(2,\)"),
    ):
        with pytest.raises(DataError, match=message):
            verify(similarity, same, np.zeros(len(same)))
        with pytest.raises(DataError, match=message):
            tar_at_far(similarity, same, 0.1)
    with pytest.raises(DataError, match="one fold per pair"):
        verify(one, np.array([True, False]), np.zeros(3))
    with pytest.raises(ConfigError, match="far is 1.5"):
        tar_at_far(one, np.array([True, False]), 1.5)


def test_an_embedding_is_of_the_image_and_its_mirror() -> None:
    images = random_images(5)
    x = (images.float() / 255 - 0.5) / 0.5
    expected = (x + x.flip(-1)).flatten(1)
    expected = expected / expected.norm(dim=1, keepdim=True)
    found = embed(Flat(), images, mean=HALF, std=HALF, device=CPU, batch_size=2)
    assert found.dtype is torch.float32
    assert torch.allclose(found, expected, atol=1e-6)
    plain = embed(Flat(), images, mean=HALF, std=HALF, device=CPU, flip=False)
    assert torch.allclose(plain, x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True), atol=1e-6)
    three = torch.tensor([0.1, 0.2, 0.3])
    scaled = embed(Flat(), images, mean=three, std=three, device=CPU, flip=False)
    x = ((images.float() / 255) - three.view(3, 1, 1)) / three.view(3, 1, 1)
    assert torch.allclose(scaled, x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_modes_come_back_and_nothing_takes_a_gradient(training) -> None:
    model = Flat().train(training)
    model.drop.train(not training)
    result = embed(model, random_images(3), mean=HALF, std=HALF, device=CPU)
    assert model.modes == {(False, False, False)}
    assert (model.training, model.drop.training) == (training, not training)
    assert not result.requires_grad


def test_modes_come_back_after_an_error() -> None:
    class Broken(nn.Module):
        def forward(self, x):
            raise ValueError("no such input")

    model = Broken().train()
    with pytest.raises(DataError, match="3x3x4x4.*no such input"):
        embed(model, random_images(3), mean=HALF, std=HALF, device=CPU)
    assert model.training


def test_what_is_no_embedding_is_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(2, numbers\), .* \(2, 3, 4, 4\)"):
        embed(nn.Identity(), random_images(2), mean=HALF, std=HALF, device=CPU)
    with pytest.raises(DataError, match="no images"):
        embed(Flat(), random_images(0), mean=HALF, std=HALF, device=CPU)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        embed(Flat(), random_images(1), mean=HALF, std=HALF, device=CPU, batch_size=0)


def test_each_distinct_image_is_embedded_once_and_alike_ones_are_found() -> None:
    # Images 2k and 2k + 1 are of one identity: the same pixels but for a little noise.
    images = random_images(10, size=(3, 8, 8))[torch.arange(10) // 2]
    images = images ^ (random_images(10, seed=1, size=(3, 8, 8)) & 15)
    first, second = np.triu_indices(10, k=1)
    same = first // 2 == second // 2
    pairs = Pairs(
        images=images,
        first=first,
        second=second,
        same=same,
        folds=(np.cumsum(same) + np.arange(len(same))) % 3,
    )
    model = Flat()
    result = verification(model, pairs, mean=HALF, std=HALF, device=CPU)
    assert sum(model.seen) == 2 * 10  # the mirrors too; of 45 pairs
    assert result.accuracy > 0.95
    unit = embed(model, images, mean=HALF, std=HALF, device=CPU).numpy()
    expected = verify(np.sum(unit[first] * unit[second], 1), same, pairs.folds)
    assert result.fold_accuracies == expected.fold_accuracies


def test_no_pairs_at_all() -> None:
    none = np.zeros(0, dtype=np.int64)
    pairs = Pairs(images=random_images(0), first=none, second=none, same=none > 0, folds=none)
    with pytest.raises(DataError, match="no pairs"):
        verification(Flat(), pairs, mean=HALF, std=HALF, device=CPU)
