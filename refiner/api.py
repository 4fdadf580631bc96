"""``refiner.refine``: the whole method in one call."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from refiner.core.errors import ConfigError
from refiner.core.inputs import first_sample, to_json
from refiner.core.progress import Progress
from refiner.core.randomness import derive_seed
from refiner.core.surgery import copied
from refiner.cost.budget import parse_budgets, within_budgets
from refiner.cost.latency_table import LatencyTable, latency_table
from refiner.data.loaders import example_of, mixed, split_loader
from refiner.distill.distillation import DistillConfig
from refiner.distill.distillation import distill as warm_up
from refiner.graph.slots import Granularity, check_granularity
from refiner.runs.baselines import find_baselines
from refiner.runs.latency_check import within_latency
from refiner.runs.notes import search_notes, too_few_scores
from refiner.runs.report import Trained
from refiner.runs.result import (
    Result,
    full_report,
    origin_settings,
    points,
    write_front,
    write_result,
)
from refiner.runs.run_folder import RunFolder, dropped_on_error, load_or_make, open_or_create
from refiner.runs.search_run import run_kept
from refiner.search.scoring import Scored
from refiner.search.search import Search, SearchConfig
from refiner.search.strategies import STEADY, check_strategy, make_strategy, resolve_strategy
from refiner.space.architecture import Vector, with_model
from refiner.space.rewriting import rewrite
from refiner.space.search_space import SearchSpace, candidate_names, search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices, make_listener
from refiner.training.evaluation import length, run_tests
from refiner.training.loop import TrainConfig, train
from refiner.training.task import Task, checked_task
from refiner.training.teacher import with_teacher

DISTILLED_SEARCH = SearchConfig(
    trials=500, epochs=10, warmup_epochs=0, train_weights=False, recalibration_batches=4
)
"""The search over distilled candidates, by default: strategy and scores alone."""


def refine(
    model: nn.Module,
    loader: Any,
    val_loader: Any = None,
    *,
    task: Task | str = "classification",
    example_input: Any = None,
    slots: Granularity | None = None,
    candidates: Sequence[str] | None = None,
    allow_larger: bool = False,
    strategy: str = "controller",
    budget: str | Sequence[str] = (),
    distill: DistillConfig | None = None,
    search: SearchConfig | None = None,
    train: TrainConfig | None = None,
    baselines: bool = True,
    seed: int = 0,
    device: str = "auto",
    precision: str = "no",
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | Progress = True,
    provenance: Mapping[str, Any] | None = None,
    tests: Mapping[str, Callable[[nn.Module], float]] | None = None,
    notes: Sequence[str] = (),
) -> Result:
    """Refine the operators of ``model`` (NAR): search, rewrite, train if asked, report.

    Args:
        model: any conv model; never changed.
        loader: training batches, of known number: a DataLoader, or any iterable with ``len()``.
        val_loader: validation batches. Without it, a fifth of the training samples is split off, which
            are then augmented as the data set augments.
        task: what a batch means: ``classification``, ``segmentation``, ``regression``, or your own.
        example_input: a tensor, or a tuple or mapping of them; by default from the first batch.
        slots: ``conv``, ``block``, ``all`` or ``group``; see :func:`refiner.search_space`. By default ``group``
            with ``distill``, else ``conv``, which is the paper's.
        candidates: names; by default as :func:`refiner.search_space` has them.
        allow_larger: admit candidates with more parameters than the original.
        strategy: ``controller``, ``milp`` or ``random``.
        budget: the most that the refined model may cost: ``macs=60%`` (of the original's),
            ``params=5e6``, ``latency=5ms`` (of one sample on the device and in the precision; the search goes by
            its candidates' times, and the finalists are measured, :mod:`refiner.runs.latency_check`), or several.
            None is exceeded, or a note says that no finalist keeps to the milliseconds; and one of them is used up
            as far as the space allows.
        distill: for a model that is trained already. All candidates first learn what the original
            gives, layer by layer; the search then leaves the weights as they are and rewards agreement to
            the original's outputs (:class:`refiner.training.teacher.Agreement`), and the refined model keeps them.
        search: how long and how much; ``warmup_epochs=0`` is the paper's R.
        train: trains the refined model and the untouched one alike after the search: the untouched one
            from the weights that ``model`` came with (after ``distill`` with norm statistics taken anew, as
            the refined one has them), the refined one from them and new ones, or,
            after ``distill``, from those that the search left. Without it the refined model keeps these.
        baselines: also score what the search has to beat, random search of as many scores and one operation
            everywhere, train it like the refined model, and report whether it was beaten. This takes
            about as long again as the scores and the training do.
        seed: fixes the run on a CPU to the bit.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``no`` or ``bf16``.
        out: folder for the run's files; must be new.
        resume: go on with the run in ``out``, which must have been made with the same settings.
        progress: True writes plain lines to stderr, False nothing; or a listener.
        provenance: noted in config.json and architecture.json: how the model was made.
        tests: further measures of the trained networks by name, such as accuracy on other images; each
            is given a network on the device in eval mode, gradients off.
        notes: lines for the report.

    Raises:
        RefinerError: something that the caller gave does not work; the message tells the next step.
    """
    if search is None:
        search = SearchConfig() if distill is None else DISTILLED_SEARCH
    kinds = (search, SearchConfig), (train, TrainConfig), (distill, DistillConfig)
    for given, kind in kinds:
        if given is not None and not isinstance(given, kind):
            raise ConfigError(f"a {type(given).__name__} was given for a {kind.__name__}.")
    if distill is not None and search.train_weights:
        raise ConfigError(
            "with distill a search leaves the weights as they are, and this SearchConfig trains them. Set "
            "warmup_epochs=0 and train_weights=False in it, or leave search out."
        )
    if tests and (train is None or train.epochs == 0):
        raise ConfigError("tests measure trained networks. Give train= (--train-epochs).")
    if slots is None:
        slots = "conv" if distill is None else "group"
    task = checked_task(task)
    devices = check_settings(slots, strategy, device, precision)
    candidate_names(candidates, slots)
    budgets = parse_budgets(budget)
    listener = make_listener(progress, devices)
    if val_loader is None:
        loader, val_loader = split_loader(loader, seed)
    example = example_of(loader) if example_input is None else example_input
    space = search_space(
        model, example, granularity=slots, candidates=candidates, allow_larger=allow_larger
    )
    settings = {
        "slots": slots,
        "candidates": [list(names) for names in space.candidates],
        "strategy": strategy,
        "budget": ",".join(map(str, budgets)) or "none",
        "distill": asdict(distill) if distill is not None else None,
        "search": asdict(search),
        "train": asdict(train) if train is not None else None,
        "baselines": baselines,
        "seed": seed,
        "precision": precision,
    }
    sizes = {"training batches": length(loader), "validation batches": length(val_loader)}
    folder = open_or_create(out, resume, settings, provenance, main=devices.is_main)
    with dropped_on_error(folder if devices.is_main else None):
        one, latencies = first_sample(example), None
        timed = next((budget for budget in budgets if budget.resource == "latency"), None)
        if timed is not None:
            latencies = _latencies(space, model, one, devices, folder)
        space, feasible = within_budgets(budgets, model, space, one, latencies)
        strategy = resolve_strategy(strategy, trained=distill is not None, budget=bool(budgets))
        proposer = make_strategy(
            strategy, space.candidates, seed, feasible,
            controller=None if distill is None else STEADY,
        )  # fmt: skip
        train_batches, val_batches = devices.loader(loader), devices.loader(val_loader, even=False)
        score_batches = devices.loader(mixed(val_loader), even=False)
        supernet = Supernet(model, space, seed=seed)
        searching = Search(
            supernet, proposer, task, train_batches, val_batches, score_batches,
            devices=devices, config=search, seed=seed,
            teacher=None if distill is None else devices.move(copied(model)),
            feasible=None if feasible.unlimited else feasible, cost=lambda v: float(feasible.cost(v)[0]),
        )  # fmt: skip

        def prepare(new: Search) -> None:
            for note in too_few_scores(new):
                listener.note(note)
            if distill is not None:
                warm_up(
                    supernet, train_batches, new.task,
                    devices=devices, config=distill, seed=seed, progress=listener, usage=new.usage,
                )  # fmt: skip

        found = run_kept(searching, folder, resume=resume, progress=listener, prepare=prepare)
        over: list[str] = []
        if timed is not None:
            found, over = within_latency(
                found, timed, model, supernet.emit, one, devices=devices, folder=folder
            )
            for note in over:
                listener.note(note)
    origin = {**(provenance or {}), "example_input": to_json(example)}
    architecture = with_model(space.architecture(found.best.vector), origin)

    notes = [
        *notes,
        *over,
        *search_notes(searching, model, found.best.vector, distilled=distill is not None),
    ]
    training = train is not None and train.epochs > 0
    spent = str(searching.usage)

    def made(vector: Vector) -> nn.Module:
        if training and distill is None:
            return rewrite(model, space.architecture(vector), seed=seed)
        return searching.scorer.emit(vector)

    refined = made(found.best.vector)
    held = find_baselines(searching, space, model, one, folder, listener) if baselines else []
    trained = None
    if train is not None and training:
        zero = (0,) * len(space.slots)
        networks = {
            "original": copied(model)
            if distill is None
            else made(zero),  # with norms as the others'
            "refined": refined,
        }
        alike = {c.kind: "refined" for c in held if c.vector == found.best.vector}
        networks |= {c.kind: made(c.vector) for c in held if c.kind not in alike}
        del searching, supernet  # only what is trained on is kept
        scores, measured = _train_alike(
            networks, model, train_batches, val_batches, task,
            devices=devices, config=train, seed=seed, progress=listener, folder=folder, tests=tests or {},
        )  # fmt: skip
        held = [replace(c, trained=scores[alike.get(c.kind, c.kind)]) for c in held]
        trained = Trained(
            epochs=train.epochs, original=scores["original"], refined=scores["refined"], tests=measured
        )  # fmt: skip
    refined = refined.cpu().eval()
    report = full_report(
        model, refined, space, architecture, example, found, task,
        devices=devices, trained=trained, settings=origin_settings(model, provenance) | settings | sizes | {"spent": spent},
        baselines=held, latencies=latencies, notes=notes,
    )  # fmt: skip
    result = Result(
        model=refined, architecture=architecture, report=report, search=found, example_input=example
    )
    if folder is not None and devices.is_main:
        scored = dict.fromkeys(
            [*found.top_k, *(Scored(vector=c.vector, score=c.search_score) for c in held)]
        )
        on_front = points(space, report.before, list(scored), latencies)
        write_front(folder, on_front, report.before, task.metric, latencies)
        write_result(
            folder, model=refined, architecture=architecture, report=report, example_input=example
        )
    return result


def check_settings(slots: str, strategy: str, device: str, precision: str) -> Devices:
    """Raise a ConfigError for a setting that nothing goes by; return the devices chosen."""
    check_granularity(slots)
    check_strategy(strategy)
    return Devices.choose(device, precision)


def _latencies(
    space: SearchSpace,
    model: nn.Module,
    example_input: Any,
    devices: Devices,
    folder: RunFolder | None,
) -> LatencyTable:
    """Return the table of latencies: measured once for a run, by the main process, and kept in its folder."""

    def measured() -> dict[str, Any]:
        return latency_table(space, model, example_input, devices=devices).to_json()

    return LatencyTable.from_json(load_or_make(folder, "latency.json", measured, devices))


def _train_alike(
    networks: Mapping[str, nn.Module],
    model: nn.Module,
    train_batches: Any,
    val_batches: Any,
    task: Task,
    *,
    devices: Devices,
    config: TrainConfig,
    seed: int,
    progress: Progress,
    folder: RunFolder | None,
    tests: Mapping[str, Callable[[nn.Module], float]],
) -> tuple[dict[str, float], tuple[tuple[str, float, float], ...]]:
    """Train networks alike; return their scores, and the further measures of original and refined.

    All but the ``original`` have the model as teacher, where the settings ask for one.
    """
    scores, measured = {}, {}
    guided = with_teacher(task, model, config.teacher_weight, devices.device)
    for name, network in networks.items():

        def keep(state: dict[str, Any], name: str = name) -> None:
            if folder is not None and devices.is_main:
                folder.save_checkpoint(name, state)

        scores[name] = train(
            network, train_batches, val_batches, task if name == "original" else guided,
            devices=devices, config=config, seed=derive_seed(seed, "final"),
            name=f"train {name}", progress=progress,
            state=folder.load_checkpoint(name) if folder is not None else None, on_epoch=keep,
        ).score  # fmt: skip
        if name in ("original", "refined"):
            measured[name] = run_tests(network, tests)
        network.zero_grad(set_to_none=True)
        network.cpu()
    return scores, tuple(
        (name, measured["original"][name], measured["refined"][name]) for name in tests
    )
