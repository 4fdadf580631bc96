"""Baselines: what a search is compared with, on its own shared weights and within its own budgets.

``random`` is random search: the strategy ``random`` gets as many trials as the search's strategy
had, and those that its estimates of effects would have paid for. They are on the same validation
images, and the best of as many top-k architectures is taken.
``uniform`` takes no search: it is the best architecture with one operation, or one keep ratio, in
every slot that offers it. Under a budget the operation fills as few slots as keep to it, evenly
spread.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace

from torch import nn

from refiner.core.inputs import ExampleInput
from refiner.core.listeners import tracker
from refiner.core.progress import Progress
from refiner.core.randomness import derive_seed
from refiner.core.types import JsonDict
from refiner.cost.costs import measure_cost
from refiner.cost.feasible import FeasibleSet
from refiner.runs.comparison import RANDOM, UNIFORM, Baseline, baselines_from_json
from refiner.runs.front import points
from refiner.runs.run_folder import RunFolder
from refiner.runs.search_run import load_kept
from refiner.runs.tracking import epoch_figures
from refiner.search.random_search import RandomStrategy
from refiner.search.scoring import Scored
from refiner.search.search import Search, SearchResult
from refiner.space.architecture import Vector
from refiner.space.keep_ratios import keep_ratio_of
from refiner.space.search_space import SearchSpace

_CHECKPOINT = "random_search"
"""Name of the checkpoint of the random search; ``random`` is that of its fine-tuning."""
_RANDOM_SEARCH = "random baseline"
"""Name of its phase."""


def find_baselines(
    search: Search,
    space: SearchSpace,
    model: nn.Module,
    example_input: ExampleInput,
    folder: RunFolder | None,
    progress: Progress,
) -> list[Baseline]:
    """Return the baselines of a finished search, scored once and kept in its folder."""
    if folder is not None and folder.holds("baselines.json"):
        return baselines_from_json(folder.read_json("baselines.json"))
    scored = score_baselines(search, progress, folder)
    before = measure_cost(model, example_input)
    costs = points(space, before, [each for _, _, each in scored])
    found = [
        Baseline(
            kind=kind,
            name=name,
            vector=each.vector,
            macs=cost.macs,
            params=cost.params,
            search_score=each.score,
            agreement=each.agreement,
        )
        for (kind, name, each), cost in zip(scored, costs, strict=True)
    ]
    if folder is not None and search.devices.is_main:
        if search.scorer.fixed:  # the front may hold a baseline, with the norms of its score
            folder.save_checkpoint("search", search.state_dict())
        folder.write_json("baselines.json", {"baselines": [asdict(each) for each in found]})
    return found


def score_baselines(
    search: Search, progress: Progress, folder: RunFolder | None = None
) -> list[tuple[str, str, Scored]]:
    """Return (kind, name, scored architecture) of each baseline of a finished search.

    The folder keeps the random search epoch by epoch, and that goes on from where it was stopped.

    A random search has no ``random`` baseline. Where no uniform architecture keeps to the budget
    there is no ``uniform`` one.
    """
    found = []
    candidates = search.supernet.candidates
    if not isinstance(search.strategy, RandomStrategy):
        random = _random_search(search)
        best = _run_kept(random, folder, progress).best
        if search.scorer.fixed:
            search.scorer.norms[best.vector] = random.scorer.norms[best.vector]
        found.append((RANDOM, "random search", best))
    uniform = uniform_vectors(candidates, search.feasible)
    if uniform:
        names = {vector: name for name, vector in reversed(uniform.items())}
        best = search.scorer.rank(list(names), progress, name="uniform baseline")[0]
        found.append((UNIFORM, names[best.vector], best))
    return found


def _run_kept(random: Search, folder: RunFolder | None, progress: Progress) -> SearchResult:
    """Run a random search from where its checkpoint in the folder left it."""
    state = None if folder is None else folder.load_checkpoint(_CHECKPOINT)
    if folder is not None and state is not None:
        load_kept(random, folder, state)

    def save() -> None:
        if folder is not None and random.devices.is_main:
            folder.save_checkpoint(_CHECKPOINT, random.state_dict())

    def keep(record: JsonDict) -> None:
        tracker(progress).epoch(_RANDOM_SEARCH, record["epoch"], epoch_figures(record))
        save()

    return random.run(progress=progress, name=_RANDOM_SEARCH, on_epoch=keep, on_finish=save)


def _random_search(search: Search) -> Search:
    """Return a search at random with the weights, the batches and the trials of a finished one."""
    assert search.result is not None
    agreement = search.scorer.agreement
    return Search(
        search.supernet,
        RandomStrategy(
            search.supernet.candidates,
            seed=derive_seed(search.seed, "control"),
            feasible=search.feasible,
        ),
        search.task,
        search.train_loader,
        search.val_loader,
        search.score_loader,
        devices=search.devices,
        teacher=None if agreement is None else agreement.teacher,
        refit=search.scorer.refit,
        shift=search.scorer.shift,  # by now the norms hold statistics of other architectures
        seed=search.seed,
        feasible=search.feasible,
        limit=search.limit,
        config=replace(
            search.config,
            # Fewer after a timeout, and more for what the search has estimated.
            trials=(search.trials or search.config.trials) + search.informing.evaluations,
            timeout=None,
            warmup_epochs=0,
            train_weights=False,
            top_k=len(search.result.top_k),  # with those of other costs for the front
            front=0,
        ),
    )


def uniform_vectors(
    candidates: Sequence[Sequence[str]], feasible: FeasibleSet | None = None
) -> dict[str, Vector]:
    """Return the architectures with one operation in every slot that offers it, by their names.

    The keep ratios are those of the slot that offers the most; others take the nearest of theirs.

    Args:
        candidates: names of each slot's candidates, the original first.
        feasible: the feasible architectures; None where all are. An operation that exceeds a limit
            however many slots it fills has no architecture.
    """
    found = {}
    for name, indices in _everywhere(candidates).items():
        places = list(indices)
        least = len(places) if feasible is None else 1
        for count in range(least, len(places) + 1):
            vector = [0] * len(candidates)
            for i in evenly(places, count):
                vector[i] = indices[i]
            if feasible is None or feasible.holds(vector):
                where = "all" if count == len(candidates) else f"{count} of {len(candidates)}"
                found[f"{name} in {where} slots"] = tuple(vector)
                break
    return found


def _everywhere(candidates: Sequence[Sequence[str]]) -> dict[str, dict[int, int]]:
    """Return the index of each operation in each slot that offers it, or a keep ratio near it."""
    found: dict[str, dict[int, int]] = {}
    ratios: list[dict[int, float]] = []
    for i, names in enumerate(candidates):
        ratios.append({})
        for k, name in enumerate(names[1:], start=1):
            ratio = keep_ratio_of(name)
            if ratio is None:
                found.setdefault(name, {})[i] = k
            else:
                ratios[i][k] = ratio
    most = max(range(len(ratios)), key=lambda i: len(ratios[i]))
    for k, ratio in ratios[most].items():
        found[candidates[most][k]] = {
            i: min(own, key=lambda j: abs(own[j] - ratio)) for i, own in enumerate(ratios) if own
        }
    return found


def evenly(places: Sequence[int], count: int) -> list[int]:
    """Return ``count`` of the slots, evenly spread: each from the middle of its share."""
    return [places[(2 * i + 1) * len(places) // (2 * count)] for i in range(count)]
