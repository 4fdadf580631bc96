"""``refine export --int8``: the ONNX file of a run in 8-bit integers, beside that in float32."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

import refiner
from refiner.core.batches import first_sample, inputs_of
from refiner.core.errors import ConfigError
from refiner.core.inputs import ExampleInput
from refiner.cost.latency import Latency
from refiner.exports.int8 import quantize
from refiner.runs.job import Job
from refiner.runs.network_scores import scores_outputs
from refiner.runtimes.loaded import load_export
from refiner.runtimes.onnx_runtime import OnnxRuntime
from refiner.runtimes.timing import timed
from refiner.training.evaluation import evaluate

from .consent import Consent
from .declared import Given
from .eval import run_networks
from .finished import check_target
from .paths import check_new_file
from .tables import print_table, say

CALIBRATION_BATCHES = 8
"""Training batches that the scales of activations come from."""
LARGE_LOSS = 0.01
"""Loss of the score from which a note names what helps."""


def export_int8(folder: Path, given: Given, *, consent: Consent, to: Path | None) -> None:
    """Quantise the refined model of a run, and print its score and milliseconds beside float's."""
    target = to or folder / "refined_int8.onnx"
    if to is not None:
        check_new_file(to)
    check_target(target)
    found = run_networks(folder, given, consent=consent, command="refine export", weights=False)
    job, network = found.job, found.refined.cpu().eval()
    if not scores_outputs(job.task):
        raise ConfigError(
            "--int8 shows what it costs in the score, and this task's score needs its head or the "
            "model itself. Export float32 and quantise that."
        )
    one = first_sample(job.example)
    with tempfile.TemporaryDirectory() as place:
        plain = Path(place) / "float32.onnx"
        refiner.export(network, plain, one, "onnx", found.preprocessing)
        quantize(plain, target, _inputs(job))
        _compare(job, network, one, {"float32": plain, "int8": target})
    say(f"{target}: ONNX in 8-bit integers, calibrated on {CALIBRATION_BATCHES} training batches")


def _inputs(job: Job) -> Iterator[ExampleInput]:
    for batch in itertools.islice(job.train_loader, CALIBRATION_BATCHES):
        inputs = inputs_of(batch)
        yield inputs if isinstance(inputs, tuple | dict | torch.Tensor) else tuple(inputs)


def _compare(job: Job, network: nn.Module, one: ExampleInput, files: dict[str, Path]) -> None:
    """Print the size, milliseconds and score of each file, and what to do where much is lost."""
    runtime = OnnxRuntime(torch.device("cpu"), torch.get_num_threads())
    modules = {
        name: load_export("onnx", file, network, one, runtime) for name, file in files.items()
    }
    passes = [lambda module=module: module(one) for module in modules.values()]
    times = dict(zip(files, map(Latency.of, timed(passes, runtime)), strict=True))
    scores = {
        name: evaluate(module, job.devices.batches(job.report_loader), job.task, job.devices)
        for name, module in modules.items()
    }
    print_table(
        f"onnxruntime {runtime.version} on {runtime.hardware}, batch 1",
        ("", "size", "latency", job.task.metric),
        [
            (
                name,
                f"{file.stat().st_size / 2**20:.2f} MiB",
                str(times[name]),
                f"{scores[name]:.4f}",
            )
            for name, file in files.items()
        ],
    )
    lost = scores["float32"] - scores["int8"]
    if lost > LARGE_LOSS:
        say(
            f"note: 8-bit integers lose {lost:.4f} of {job.task.metric}. Fine-tune for longer, or "
            "deploy float32."
        )
