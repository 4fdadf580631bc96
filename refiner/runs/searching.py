"""The search stage of a run: the supernet, its distillation, and the strategy that searches it."""

from dataclasses import replace

from refiner.core.surgery import copied
from refiner.distill.distillation import distill
from refiner.distill.front_to_back import FrontToBack
from refiner.runs.costing import CostedSpace
from refiner.runs.job import Job, announce
from refiner.runs.latency_check import Checked, within_latency
from refiner.runs.latency_limit import LatencyLimit
from refiner.runs.notes import too_few_scores
from refiner.runs.search_run import run_kept
from refiner.runs.settings import Settings
from refiner.search.ranked_refit import RankedRefit
from refiner.search.search import Search
from refiner.search.strategies import STEADY, make_strategy
from refiner.space.supernet import Supernet


def make_search(job: Job, settings: Settings, costed: CostedSpace) -> Search:
    """Return the search of a run, around a new supernet."""
    strategy = make_strategy(
        settings.strategy,
        costed.space.candidates,
        settings.seed,
        costed.feasible,
        controller=STEADY if settings.trained else None,
    )
    teacher = job.devices.move(copied(job.model)) if settings.trained else None
    refit = None
    if teacher is not None and settings.refits:
        front_to_back = FrontToBack(
            teacher, costed.space, job.train_loader, job.task, devices=job.devices, seed=job.seed
        )
        refit = RankedRefit(front_to_back.fit, forget=front_to_back.forget)
    return Search(
        Supernet(job.model, costed.space, seed=settings.seed),
        strategy,
        job.task,
        job.train_loader,
        job.val_loader,
        job.score_loader,
        devices=job.devices,
        config=settings.search,
        seed=settings.seed,
        teacher=teacher,
        refit=refit,
        feasible=costed.limited,
        cost=lambda vector: float(costed.feasible.cost(vector)[0]),
        limit=_latency_limit(job, settings, costed),
    )


def _latency_limit(job: Job, settings: Settings, costed: CostedSpace) -> LatencyLimit | None:
    """Return what measures recommended architectures where latency is a budget."""
    if costed.latency_budget is None:
        return None
    assert costed.latencies is not None
    return LatencyLimit(
        costed.latency_budget,
        settings.budgets.index(costed.latency_budget),
        costed.latencies,
        costed.space,
        costed.feasible,
        job.model,
        costed.deployment,
        job.devices,
        job.folder,
    )


def run_search_stage(job: Job, settings: Settings, costed: CostedSpace, search: Search) -> Checked:
    """Run a search to its end, from where the run's folder left it, and return how it ended.

    A new search of a trained model begins with distillation. With a latency budget the top-k
    architectures are timed, and those that exceed it are left out.
    """

    def prepare(new: Search) -> None:
        announce(too_few_scores(new), job.progress)
        if settings.distill is not None:
            assert isinstance(new.supernet, Supernet)
            distill(
                new.supernet,
                job.train_loader,
                new.task,
                devices=job.devices,
                config=settings.distill,
                seed=settings.seed,
                progress=job.progress,
                usage=new.usage,
            )

    found = run_kept(
        search, job.folder, resume=job.output.resume, progress=job.progress, prepare=prepare
    )
    if costed.latency_budget is None:
        return Checked(found=found)
    checked = within_latency(
        found,
        costed.latency_budget,
        job.model,
        search.supernet.emit,
        costed.deployment,
        devices=job.devices,
        folder=job.folder,
    )
    announce(checked.notes, job.progress)
    assert isinstance(search.limit, LatencyLimit)
    return replace(checked, table=search.limit.table)
