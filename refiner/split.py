"""Stratified, seeded splits of labelled samples."""

from typing import Any

import numpy as np


def stratified(
    labels: np.ndarray[Any, Any], share: float, seed: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return (the others, a random ``share`` of each class), as sorted indices.

    A class of two samples or more keeps at least one on either side; a single sample is taken for
    neither validation nor a subset, it stays among the others.
    """
    generator = np.random.default_rng(seed)
    taken = [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        taken.append(members[: min(max(round(share * len(members)), 1), len(members) - 1)])
    chosen = np.sort(np.concatenate(taken))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
