"""What a search that has ended leaves: the refined network, and the networks to compare it with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from refiner.core.surgery import copied
from refiner.runs.baselines import find_baselines
from refiner.runs.comparison import Baseline
from refiner.runs.costing import CostedSpace
from refiner.runs.job import Job
from refiner.runs.network_scores import GIVEN, ORIGINAL, REFINED, has_head, score_networks
from refiner.runs.notes import search_notes
from refiner.runs.refitting import refit_networks
from refiner.runs.settings import Settings
from refiner.search.search import Search, SearchResult
from refiner.space.architecture import Architecture, Vector, with_model
from refiner.space.rewriting import rewrite
from refiner.training.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The networks of a run before any fine-tuning."""

    found: SearchResult
    architecture: Architecture
    networks: dict[str, nn.Module]
    """By name: ``refined``, and what is fine-tuned beside it, the original and the baselines."""
    baselines: tuple[Baseline, ...]
    notes: tuple[str, ...]
    spent: str
    """Images that the search used."""
    scores: Mapping[str, float]
    """Scores before any fine-tuning by name, also of the original as given (:data:`GIVEN`), on the
    images of the report. It is empty where networks are trained from scratch after the search."""

    @property
    def refined(self) -> nn.Module:
        """The refined network."""
        return self.networks[REFINED]

    def network_of(self, baseline: Baseline) -> str:
        """Return the name of the network that a baseline is; it may be the refined one."""
        return REFINED if baseline.vector == self.architecture.vector else baseline.kind


def select(
    job: Job,
    settings: Settings,
    costed: CostedSpace,
    search: Search,
    found: SearchResult,
    notes: Sequence[str],
) -> Selection:
    """Return the networks of a search that has ended, each a module of its own.

    Networks that are trained from scratch afterwards begin with new weights where they differ from
    the original. All others keep the weights that the search left.
    """
    vector, space = found.best.vector, costed.space
    notes = (*notes, *search_notes(search, vector))
    spent = str(search.usage)

    def network(of: Vector) -> nn.Module:
        if settings.fine_tunes and not settings.trained:
            return rewrite(job.model, space.architecture(of), seed=settings.seed)
        return search.scorer.emit(of)

    networks = {REFINED: network(vector)}
    baselines: list[Baseline] = []
    if settings.baselines:
        baselines = find_baselines(search, space, job.model, job.one, job.folder, job.progress)
    if settings.trained:
        networks = {ORIGINAL: network((0,) * len(space.slots)), **networks}
    elif settings.fine_tunes:
        networks = {ORIGINAL: copied(job.model), **networks}
    networks |= {each.kind: network(each.vector) for each in baselines if each.vector != vector}
    changed = {name: each for name, each in networks.items() if name != ORIGINAL}
    notes = (*notes, *refit_networks(job, settings, space, search, changed))
    scores = _scores(job, settings, search.task, networks)
    if not settings.fine_tunes:
        networks = {REFINED: networks[REFINED]}
    selection = Selection(
        found=found,
        architecture=with_model(space.architecture(vector), job.origin),
        networks=networks,
        baselines=tuple(baselines),
        notes=tuple(notes),
        spent=spent,
        scores=scores,
    )
    return replace(
        selection,
        baselines=tuple(
            replace(each, score=scores.get(selection.network_of(each))) for each in baselines
        ),
    )


def _scores(
    job: Job, settings: Settings, task: Task, networks: Mapping[str, nn.Module]
) -> dict[str, float]:
    """Return the scores of networks before any fine-tuning, and of the original as given.

    A network that begins with new weights has none, nor has one whose task brings an untrained
    head.
    """
    if (settings.fine_tunes and not settings.trained) or (settings.trained and has_head(task)):
        return {}
    given = {GIVEN: copied(job.model)} if settings.trained else {}
    return score_networks(job, task, {**given, **networks})
