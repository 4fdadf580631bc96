"""How much the changes of each kind of slot count in a whole network.

A slot that is timed by itself finds its weights in the caches and its threads awake, so that a
change of it may save less or more than in the whole network. Some whole networks are timed, and the
changes of all slots of one kind get one scale. The scales are the posterior mean of a linear model:
around a common scale, those of the kinds differ by ``SPREAD``, and a network's time is known up to
``NOISE``. So kinds that no network says much about keep to the common scale.

Suffixes: A anchors, K kinds.
"""

import numpy as np

from refiner.cost.latency_table import LatencyTable

COMMON_SPREAD = 0.5
"""Standard deviation of the common scale around 1."""
SPREAD = 0.2
"""Standard deviation of a kind's scale around the common one."""
NOISE = 0.01
"""Standard deviation of a whole network's time, as a share of the original's."""


def scales_of(table: LatencyTable) -> dict[str, float]:
    """Return the scale of each slot's changes, by the name of the slot."""
    kind_of = {slot: table.kinds.get(slot, slot) for slot in table.slots}
    kinds = list(dict.fromkeys(kind_of.values()))
    changes_AK = np.zeros((len(table.anchors), len(kinds)))
    for a, anchor in enumerate(table.anchors):
        for slot, name in anchor.operations.items():
            change = table.change(slot, name) / table.model.median
            changes_AK[a, kinds.index(kind_of[slot])] += change
    missing_A = np.array([a.share - 1 for a in table.anchors]) - changes_AK.sum(axis=1)
    # The unknowns are how far the common scale is from 1, and each kind's from the common one.
    design = np.block(
        [
            [changes_AK.sum(axis=1, keepdims=True) / NOISE, changes_AK / NOISE],
            [np.diag([1 / COMMON_SPREAD, *[1 / SPREAD] * len(kinds)])],
        ]
    )
    target = np.concatenate([missing_A / NOISE, np.zeros(1 + len(kinds))])
    common, *own = np.linalg.lstsq(design, target, rcond=None)[0].tolist()
    by_kind = {kind: max(0.0, 1 + common + each) for kind, each in zip(kinds, own, strict=True)}
    return {slot: by_kind[kind] for slot, kind in kind_of.items()}
