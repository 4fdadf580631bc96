"""Time every candidate of every slot in a runtime, each in its slot among the slot's neighbours.

All candidates of a slot run in turn with the original (see :mod:`refiner.cost.neighbourhood`).
Slots that look the same are timed once. In the end a few whole networks are timed, which say by how
much the changes of each kind of slot count there.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from torch import nn

from refiner.core.inputs import to_device_of
from refiner.core.progress import Progress, Silent
from refiner.core.randomness import derive_seed
from refiner.core.surgery import copied, replace_modules
from refiner.cost.deployment import Deployment
from refiner.cost.latency import Latency
from refiner.cost.latency_cache import LatencyCache, key_of, still_true
from refiner.cost.latency_table import LatencyTable
from refiner.cost.neighbourhood import Neighbourhood, neighbourhood
from refiner.cost.whole_latencies import WHOLE_PATIENCE, anchored, random_vectors
from refiner.graph.skips import Flow
from refiner.graph.slots import Slot
from refiner.graph.tracing import trace_model
from refiner.runtimes.confidence import median_interval
from refiner.runtimes.runtime import Runtime
from refiner.runtimes.timing import Patience, timed, timed_networks
from refiner.space.candidates import ORIGINAL
from refiner.space.filling import fill
from refiner.space.search_space import SearchSpace

SLOT_PATIENCE = Patience(repeats=20, most=60, warm_up=2)
ANCHORS = 8
"""Random architectures that are timed as whole networks."""


def latency_table(
    space: SearchSpace,
    model: nn.Module,
    deployment: Deployment,
    *,
    anchors: int = ANCHORS,
    patience: Patience = SLOT_PATIENCE,
    whole_patience: Patience = WHOLE_PATIENCE,
    cache: LatencyCache | None = None,
    progress: Progress | None = None,
) -> LatencyTable:
    """Measure a model and the candidates for its slots.

    Args:
        space: slots and candidates.
        model: the original; it is left as it is.
        deployment: runtime and batch.
        anchors: number of random architectures that are timed as whole networks.
        patience: how long the candidates of a slot are timed.
        whole_patience: how long whole networks are timed.
        cache: times of earlier runs, which is used and added to.
        progress: listener, whose phase has begun; it advances by one for each slot and each whole
            network.

    Raises:
        ModelError: the runtime cannot hold the model.
    """
    progress, runtime = progress or Silent(), deployment.runtime
    whole = timed_networks([model], deployment.batch, runtime, whole_patience)[0]
    on_cpu = copied(model).cpu()
    traced = trace_model(on_cpu, to_device_of(on_cpu, deployment.batch)).graph_module
    flow = Flow(traced)
    first: dict[tuple[str, tuple[str, ...]], str] = {}
    kinds: dict[str, str] = {}
    times: dict[str, Mapping[str, Sequence[float]]] = {}
    for slot, names in zip(space.slots, space.candidates, strict=True):
        near = neighbourhood(traced, flow, slot)
        kinds[slot.name] = first.setdefault((near.key, names), slot.name)
        if kinds[slot.name] == slot.name:
            times[slot.name] = _kept_or_timed(slot, names, near, runtime, patience, cache)
        progress.advance()
    table = LatencyTable(
        conditions=deployment.conditions,
        model=Latency.of(whole),
        slots={
            slot: {name: Latency.of(each) for name, each in times[kind].items()}
            for slot, kind in kinds.items()
        },
        changes={slot: _changes(times[kind]) for slot, kind in kinds.items()},
        kinds=kinds,
    )
    vectors = random_vectors(space, anchors)
    return anchored(
        table, space, vectors, model, deployment, patience=whole_patience, progress=progress
    )


def _kept_or_timed(
    slot: Slot,
    names: Sequence[str],
    near: Neighbourhood,
    runtime: Runtime,
    patience: Patience,
    cache: LatencyCache | None,
) -> Mapping[str, Sequence[float]]:
    """Return times that an earlier run kept, if they still hold, else newly measured ones."""
    key = None if cache is None else key_of(near.key, near.network, names)
    if cache is None or key is None:
        return _times(slot, names, near, runtime, patience)
    kept = cache.get(key)
    if kept is not None and kept.keys() == set(names):
        now = timed([runtime.prepare(near.network, near.example)], runtime, patience)[0]
        if still_true(kept[ORIGINAL], now):
            return kept
    times = _times(slot, names, near, runtime, patience)
    cache.put(key, times)
    return times


def _times(
    slot: Slot, names: Sequence[str], near: Neighbourhood, runtime: Runtime, patience: Patience
) -> dict[str, list[float]]:
    """Time the candidates of a slot in turn; return the milliseconds of each in each round."""
    passes = []
    for name in names:
        network = copied(near.network)
        if name != ORIGINAL:
            modules = dict(network.named_modules(remove_duplicate=False))
            seed_of = partial(derive_seed, 0, "latency", name)
            replace_modules(network, fill(slot, name, modules, seed_of))
        passes.append(runtime.prepare(network, near.example))
    return dict(zip(names, timed(passes, runtime, patience), strict=True))


def _changes(times: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Return the interval of each candidate's change, from its rounds with the original."""
    found = {}
    for name, each in times.items():
        pairs = zip(each, times[ORIGINAL], strict=True)
        if name != ORIGINAL and (interval := median_interval([new - old for new, old in pairs])):
            found[name] = interval
    return found
