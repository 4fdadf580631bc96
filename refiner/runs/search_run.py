"""A search in a run's folder: kept epoch by epoch, and resumed from where it stopped."""

import os
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import nn

from refiner.core.errors import RunError
from refiner.core.listeners import tracker
from refiner.core.progress import Progress
from refiner.core.types import JsonDict, Loader, Provenance, StateDict
from refiner.data.loaders import mixed
from refiner.runs.beginning import dropped_on_error, open_or_create
from refiner.runs.fingerprint import fingerprint
from refiner.runs.run_folder import RunFolder
from refiner.runs.tracking import epoch_figures
from refiner.search.scoring import WeightSharing
from refiner.search.search import Search, SearchConfig, SearchResult
from refiner.search.strategy import Strategy
from refiner.space.architecture import Vector
from refiner.space.search_space import SearchSpace
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices, make_listener
from refiner.training.task import Task, checked_task


def run_search(
    supernet: WeightSharing,
    strategy: Strategy,
    loader: Loader,
    val_loader: Loader,
    *,
    task: Task | str = "classification",
    config: SearchConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "no",
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | Progress = True,
    provenance: Provenance | None = None,
) -> SearchResult:
    """Search any network with shared weights, such as a macro network, and stop there.

    Nothing is rewritten or fine-tuned. Arguments that are not listed are those of
    :func:`refiner.refine`.

    Args:
        supernet: the shared weights; they are trained in place.
        strategy: what proposes architectures. At the end it holds what it learned, also after a
            resumed or a finished search.
        loader: training batches.
        val_loader: validation batches, which rewards come from.
        config: how long and how much.
        out: folder for config.json, metrics.jsonl and checkpoint/; must be new.
        resume: go on with the search in ``out``, which must have equal settings.

    Raises:
        RefinerError: something that the caller gave does not work; the message names the next step.
    """
    config = config or SearchConfig()
    devices = Devices.choose(device, precision)
    settings = {
        "strategy": type(strategy).__name__,
        "candidates": [list(names) for names in supernet.candidates],
        "search": asdict(config),
        "seed": seed,
        "precision": precision,
    }
    tried = checked_task(task)

    def begun_with() -> JsonDict:
        loaders = {"training": loader, "validation": val_loader}
        return fingerprint(supernet.model, tried, loaders, None)

    folder = open_or_create(out, resume, settings, provenance, begun_with, main=devices.is_main)
    held = devices.held(val_loader)
    with dropped_on_error(folder if devices.is_main else None):
        searching = Search(
            supernet, strategy, tried,
            devices.loader(loader), devices.loader(held, even=False),
            devices.loader(mixed(held), even=False),
            devices=devices, config=config, seed=seed,
        )  # fmt: skip
        listener = make_listener(progress, devices)
        return run_kept(searching, folder, resume=resume, progress=listener)


def run_kept(
    searching: Search,
    folder: RunFolder | None,
    *,
    resume: bool,
    progress: Progress,
    prepare: Callable[[Search], None] = lambda _: None,
) -> SearchResult:
    """Run a search and keep it in a folder, epoch by epoch, from where that left it.

    Args:
        searching: a new search.
        folder: of its run; None keeps nothing.
        resume: whether the folder holds a search to go on with.
        progress: listener.
        prepare: is called with a new search, before it is saved for the first time.

    Raises:
        RunError: there is nothing to go on with, or it does not fit.
        TrainingError: the loss is not finite.
    """
    state = folder.load_checkpoint("search") if resume and folder is not None else None
    if state is not None and folder is not None:
        load_kept(searching, folder, state)
        folder.forget_after(searching.epoch)
    elif folder is not None and folder.records:
        raise RunError(
            f"{folder.path} has no checkpoint of the search, so nothing can be resumed. "
            "Delete it and begin a new run."
        )
    else:  # new, or stopped while it was prepared
        prepare(searching)
    main = searching.devices.is_main

    def save() -> None:
        if folder is not None and main:
            folder.save_checkpoint("search", searching.state_dict())

    def keep(record: JsonDict) -> None:
        tracker(progress).epoch(record["phase"], record["epoch"], epoch_figures(record))
        if folder is not None and main:
            folder.record(record)
        save()

    if state is None:
        save()  # a run that is killed in its first epoch can go on, too
    return searching.run(progress=progress, on_epoch=keep, on_finish=save)


def kept_network(
    folder: RunFolder, model: nn.Module, space: SearchSpace, vector: Vector
) -> nn.Module:
    """Return an architecture of a kept search, with the weights that the search left.

    Its norms get the statistics that its score was taken with, where those were kept. Otherwise
    they get the model's own in slots that the architecture leaves unchanged, and those of each
    candidate's last score in all others.

    Args:
        folder: of the run.
        model: the original that was searched.
        space: the search space.
        vector: any architecture; statistics are kept of the top-k and the baselines.

    Raises:
        RunError: there is no checkpoint of the search, or it does not fit.
    """
    supernet = Supernet(model, space)
    state = folder.load_checkpoint("search")
    if state is None:
        raise RunError(f"{folder.path} has no checkpoint of the search, which holds the weights.")
    try:
        supernet.model.load_state_dict(state["trainer"]["module"])
    except Exception as error:  # a damaged one makes torch raise anything
        raise RunError(f"the checkpoint in {folder.path} does not fit this model.") from error
    network = supernet.emit(vector)
    buffers = dict(network.named_buffers())
    norms = {tuple(each): norms for each, norms in state.get("norms", [])}
    for name, kept in norms.get(vector, _unchanged_buffers(model, space, vector)).items():
        if name in buffers:
            buffers[name].copy_(kept)
    return network


def _unchanged_buffers(
    model: nn.Module, space: SearchSpace, vector: Vector
) -> dict[str, torch.Tensor]:
    """Return the buffers of a model that are not in a slot which an architecture changes."""
    changed = tuple(
        f"{name}."
        for slot, index in zip(space.slots, vector, strict=True)
        for name in slot.modules
        if index
    )
    return {name: buffer for name, buffer in model.named_buffers() if not name.startswith(changed)}


def load_kept(searching: Search, folder: RunFolder, state: StateDict) -> None:
    """Load a checkpoint of its folder into a search.

    Raises:
        RunError: it does not fit.
    """
    try:
        searching.load_state_dict(state)
    except Exception as error:  # a damaged one makes torch raise anything
        raise RunError(
            f"the checkpoint in {folder.path} does not fit this model. Begin a new run."
        ) from error
