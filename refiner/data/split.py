"""Stratified, seeded splits of labelled samples."""

from typing import Any

import numpy as np


def members(labels: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Return the indices, rising, of the samples of each class; the classes rise, too.

    One sort: a search for each class in all labels takes minutes with many thousands of identities.
    """
    counts = np.unique(labels, return_counts=True)[1]
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])


def stratified(
    labels: np.ndarray[Any, Any], share: float, seed: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return (the others, a random ``share`` of each class), as sorted indices.

    A class of two samples or more keeps at least one on either side; a single sample is taken for
    neither validation nor a subset, it stays among the others.
    """
    generator = np.random.default_rng(seed)
    taken = [np.empty(0, dtype=np.int64)]
    for indices in members(labels):
        drawn = generator.permutation(indices)
        taken.append(drawn[: min(max(round(share * len(drawn)), 1), len(drawn) - 1)])
    chosen = np.sort(np.concatenate(taken))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
