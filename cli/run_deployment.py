"""Where a run's network is deployed, and whether its ONNX file holds there."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from refiner.core.errors import ConfigError, ModelError, RunError, one_line
from refiner.core.inputs import ExampleInput, call
from refiner.core.types import JsonDict
from refiner.cost.deployment import Deployment
from refiner.exports.batch_sizes import batch_sizes
from refiner.exports.writers import ONNX_TOLERANCE
from refiner.runs.run_folder import RunFolder
from refiner.runtimes.choice import RUNTIMES
from refiner.runtimes.loaded import load_export
from refiner.runtimes.onnx_based import OnnxBased

_MOST = {"latency_batch": 65536, "threads": 1024}
"""Samples that are timed at once, and threads; a folder that says more is damaged."""


def deployment_of(
    run: RunFolder, settings: JsonDict, example: ExampleInput
) -> tuple[Deployment, list[str]]:
    """Return the deployment of a run, on this CPU, and notes; a run of ``train`` timed one sample.

    Runs of before there were runtimes were timed in eager PyTorch.

    Raises:
        RunError: its folder names none.
    """
    batch, threads = settings.get("latency_batch", 1), settings.get("threads")
    runtime = settings.get("runtime", "eager" if "budget" in settings else "auto")
    counts = {"latency_batch": batch} | ({} if threads is None else {"threads": threads})
    for name, count in counts.items():
        if type(count) is not int or not 1 <= count <= _MOST[name]:
            raise RunError(f"{run.path} holds a damaged config.json: {name} is {count!r:.40}.")
    if runtime not in RUNTIMES:
        raise RunError(f"{run.path} holds a damaged config.json: runtime is {runtime!r:.40}.")
    options: dict[str, Any] = {"device": torch.device("cpu"), "threads": threads, "batch": batch}
    try:
        return Deployment.choose(example, runtime=runtime, **options), []
    except ConfigError as error:
        note = f"the run was timed in {runtime}, and here it cannot be: {error}"
        return Deployment.choose(example, **options), [note]


def onnx_deployment(run: RunFolder, example: ExampleInput) -> tuple[Deployment, list[str]]:
    """Return where a run's ONNX file is deployed, and notes.

    Raises:
        RunError: its config.json is damaged.
    """
    settings = run.config().get("settings") or {}
    if not isinstance(settings, dict):
        raise RunError(f"{run.path} holds a damaged config.json: settings are {settings!r:.40}.")
    return deployment_of(run, settings, example)


def check_onnx(
    where: Deployment, notes: list[str], file: Path, model: nn.Module, example: ExampleInput
) -> str:
    """Compare an ONNX file with its model where it is deployed; return what is to be said.

    The export has been compared in onnxruntime already. Where the run was timed in another runtime
    that takes ONNX, the file is loaded there too.

    Raises:
        ModelError: that runtime cannot hold the file, or gives other outputs.
    """
    runtime = where.runtime
    if notes:
        return f"not checked in the run's runtime: {notes[0]}"
    if not isinstance(runtime, OnnxBased) or runtime.name == "onnxruntime":
        return ""
    loaded = load_export("onnx", file, model, example, runtime)
    try:
        sizes = batch_sizes(model, lambda x: call(loaded, x), example, ONNX_TOLERANCE)
    except AssertionError as error:
        raise ModelError(
            f"{file} gives other outputs in {runtime.name} than the model: {one_line(error)}. "
            "Deploy it in onnxruntime, or export another format."
        ) from error
    return f"in {runtime.name} {runtime.version}: {sizes}"
