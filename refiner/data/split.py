"""Stratified, seeded splits of labelled samples."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Indices: TypeAlias = NDArray[np.int64]
"""Labels, or indices of samples: one dimension."""

LABEL_ATTRIBUTES = ("targets", "labels", "_labels", "y")
"""Where data sets of torchvision and others keep the label of each sample."""


def members(labels: Indices) -> list[Indices]:
    """Return the sample indices of each class, ascending; classes are in ascending order, too.

    It sorts once: a search for each class takes minutes with many thousands of identities.
    """
    counts = np.unique(labels, return_counts=True)[1]
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])


def stratified(labels: Indices, share: float, seed: int) -> tuple[Indices, Indices]:
    """Return (the others, a random ``share`` of each class), as sorted indices.

    A class of two samples or more keeps at least one on either side. The sample of a class of one
    stays among the others.
    """
    generator = np.random.default_rng(seed)
    taken = [np.empty(0, dtype=np.int64)]
    for indices in members(labels):
        drawn = generator.permutation(indices)
        taken.append(drawn[: min(max(round(share * len(drawn)), 1), len(drawn) - 1)])
    chosen = np.sort(np.concatenate(taken))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
