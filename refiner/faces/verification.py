"""Verification: whether two images show the same identity, by the cosine of their embeddings.

The protocol is that of LFW (Huang et al. 2007, "image restricted" folds); CFP and AgeDB share it.
Suffixes: U distinct images, D numbers of an embedding, P pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from refiner.core.errors import ConfigError, DataError
from refiner.core.modes import mode
from refiner.training.evaluation import checked, kind

Floats: TypeAlias = NDArray[np.floating]
Bools: TypeAlias = NDArray[np.bool_]
Integers: TypeAlias = NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of images, each the same identity twice or two identities, in folds."""

    images: torch.Tensor
    """The distinct images: uint8, U x C x H x W."""
    first: Integers
    """Number of each pair's first image: int64, P."""
    second: Integers
    """Number of its second image: int64, P."""
    same: Bools
    """Whether both show one identity: bool, P."""
    folds: Integers
    """Number of each pair's fold: int64, P."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How well same and different pairs are separated."""

    accuracy: float
    """Share of pairs judged correctly, 0 to 1: the mean over the folds."""
    std: float
    """Standard deviation of that share over the folds."""
    thresholds: tuple[float, ...]
    """For each fold, the least similarity of a pair that counts as the same; may be infinite."""
    fold_accuracies: tuple[float, ...]
    """For each fold, the share of pairs judged correctly."""


def embed(
    model: nn.Module,
    images: torch.Tensor,
    *,
    mean: torch.Tensor,
    std: torch.Tensor,
    device: torch.device,
    batch_size: int = 128,
    flip: bool = True,
) -> torch.Tensor:
    """Return the embeddings of images, float32, U x D, each of length 1, on the CPU.

    Args:
        model: on ``device``; returns N x D. It runs in eval mode, then its own mode is restored.
        images: uint8, U x C x H x W.
        mean, std: of each channel, or one value for all, on the scale 0 to 1.
        device: of the model.
        batch_size: images per batch.
        flip: add the embedding of the mirrored image, as ArcFace's published code does.

    Raises:
        ConfigError: ``batch_size`` is below 1.
        DataError: there are no images, the model fails, or its output is not an embedding N x D.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}. Give 1 or more.")
    if len(images) == 0:
        raise DataError("there are no images to embed. Give one or more.")
    mean, std = (value.view(1, -1, 1, 1).to(device) for value in (mean, std))
    parts = []
    with torch.no_grad(), mode(model, False):
        for part in images.split(batch_size):
            batch = (part.to(device).float() / 255 - mean) / std
            embedding = checked(_embedding, model, batch)
            if flip:
                embedding = embedding + checked(_embedding, model, batch.flip(-1))
            parts.append(F.normalize(embedding).cpu())
    return torch.cat(parts)


def verify(similarity_P: Floats, same_P: Bools, folds_P: Integers) -> Verification:
    """Return how well a threshold on the similarity separates same and different pairs.

    A pair counts as the same where its similarity reaches the threshold. Each fold is judged with
    the threshold that is best on all other folds: a similarity found there, or infinity. Of equally
    good thresholds the largest is taken. A single fold takes its threshold from its own pairs, so
    its accuracy is too optimistic.

    Args:
        similarity_P: of each pair; larger means more similar.
        same_P: bool, whether both images show one identity.
        folds_P: integer, the fold of each pair.

    Raises:
        DataError: there are no pairs, only pairs of one kind, a similarity that is not finite, or
            arrays of different lengths.
    """
    similarity_P, same_P = _checked_pairs(similarity_P, same_P)
    folds_P = np.asarray(folds_P)
    if folds_P.shape != same_P.shape:
        raise DataError(
            f"there are {len(same_P)} pairs, but folds of shape {folds_P.shape}. Give one fold per "
            "pair."
        )
    folds = np.unique(folds_P)
    thresholds, accuracies = [], []
    for fold in folds:
        inside_P = folds_P == fold
        seen_P = ~inside_P if len(folds) > 1 else inside_P
        threshold = _best_threshold(similarity_P[seen_P], same_P[seen_P])
        right = (similarity_P[inside_P] >= threshold) == same_P[inside_P]
        thresholds.append(threshold)
        accuracies.append(float(right.mean()))
    return Verification(
        accuracy=float(np.mean(accuracies)),
        std=float(np.std(accuracies)),
        thresholds=tuple(thresholds),
        fold_accuracies=tuple(accuracies),
    )


def tar_at_far(similarity_P: Floats, same_P: Bools, far: float) -> float:
    """Return the true accept rate at a false accept rate, 0 to 1.

    Thresholds that accept at most the share ``far`` of the different pairs are considered; the
    result is the largest share of same pairs that one of them accepts.

    Raises:
        ConfigError: ``far`` is not 0 to 1.
        DataError: as :func:`verify`.
    """
    if not 0 <= far <= 1:
        raise ConfigError(f"far is {far}. Give a share, 0 to 1.")
    similarity_P, same_P = _checked_pairs(similarity_P, same_P)
    _, true, false = _accepted(similarity_P, same_P)
    # A quotient of counts is rounded as the literal is: 29 / 100 is 0.29, 0.29 * 100 is not 29.
    allowed = false / (~same_P).sum() <= far
    return float(true[allowed].max() / same_P.sum())


def verification(
    model: nn.Module,
    pairs: Pairs,
    *,
    mean: torch.Tensor,
    std: torch.Tensor,
    device: torch.device,
) -> Verification:
    """Return how well the cosine of a model's embeddings separates same and different pairs.

    Args:
        model, mean, std, device: as for :func:`embed`.
        pairs: to judge; each distinct image is embedded once.

    Raises:
        DataError: as :func:`embed` and :func:`verify`.
    """
    if len(pairs.same) == 0:
        raise _no_pairs()
    embedding_UD = embed(model, pairs.images, mean=mean, std=std, device=device)
    similarity_P = (embedding_UD[pairs.first] * embedding_UD[pairs.second]).sum(1)
    return verify(similarity_P.numpy(), pairs.same, pairs.folds)


def verification_test(
    pairs: Pairs, *, mean: torch.Tensor, std: torch.Tensor
) -> Callable[[nn.Module], float]:
    """Return a measure of a network for ``tests=``: its accuracy on pairs, 0 to 1.

    Args:
        pairs, mean, std: as for :func:`verification`.
    """

    def accuracy(model: nn.Module) -> float:
        device = next(model.parameters()).device
        return verification(model, pairs, mean=mean, std=std, device=device).accuracy

    return accuracy


def _embedding(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    output = model(batch)
    if not isinstance(output, torch.Tensor) or output.dim() != 2 or len(output) != len(batch):
        raise DataError(
            f"verification wants embeddings of shape ({len(batch)}, numbers), the model gives "
            f"{kind(output)}. Give a model whose output is the embedding."
        )
    return output.float()


def _checked_pairs(similarity_P: Floats, same_P: Bools) -> tuple[Floats, Bools]:
    similarity_P, same_P = np.asarray(similarity_P), np.asarray(same_P, dtype=bool)
    if similarity_P.ndim != 1 or similarity_P.shape != same_P.shape:
        raise DataError(
            f"the similarities have the shape {similarity_P.shape}, but `same` has "
            f"{same_P.shape}. Give one of each per pair."
        )
    if len(same_P) == 0:
        raise _no_pairs()
    if same_P.all() or not same_P.any():
        raise DataError(
            f"all {len(same_P)} pairs are {'the same' if same_P[0] else 'different'}. Add pairs of "
            "the other kind."
        )
    if not np.isfinite(similarity_P).all():
        bad = int(np.flatnonzero(~np.isfinite(similarity_P))[0])
        raise DataError(
            f"the similarity of pair {bad} is {similarity_P[bad]}. Look for such values in the "
            "embeddings and in the model's weights."
        )
    return similarity_P, same_P


def _no_pairs() -> DataError:
    return DataError("there are no pairs. Give some of the same identity and some of two.")


def _accepted(similarity_P: Floats, same_P: Bools) -> tuple[Floats, Integers, Integers]:
    """Return thresholds, falling from infinity, and the same and different pairs each accepts."""
    order = np.argsort(-similarity_P, kind="stable")
    values, same = similarity_P[order], same_P[order]
    # A threshold accepts all pairs of equal similarity, so only the last of them counts.
    last = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)
    thresholds = np.append(np.inf, values[last])
    true = np.append(0, np.cumsum(same)[last])
    return thresholds, true, np.append(0, last + 1) - true


def _best_threshold(similarity_P: Floats, same_P: Bools) -> float:
    thresholds, true, false = _accepted(similarity_P, same_P)
    return float(thresholds[np.argmax(true - false)])
