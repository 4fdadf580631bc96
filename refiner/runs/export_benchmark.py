"""Networks in every export format and every runtime at hand, side by side."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from refiner.core.errors import ModelError, one_line
from refiner.core.inputs import ExampleInput, to_device_of
from refiner.cost.deployment import Deployment
from refiner.cost.latency import Latency
from refiner.exports.exporting import export
from refiner.runtimes.eager import run_once
from refiner.runtimes.loaded import load_export
from refiner.runtimes.onnx_based import OnnxBased
from refiner.runtimes.runtime import Pass, Runtime
from refiner.runtimes.timing import Patience, timed

FORMAT_OF = {
    "eager": "python",
    "compile": "python",
    "onnxruntime": "onnx",
    "tensorrt": "onnx",
    "openvino": "onnx",
}
"""The export format that a runtime takes. TorchScript and pt2 run in eager PyTorch's runtime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network in one format and runtime."""

    network: str
    format: str
    runtime: str
    """With its version."""
    hardware: str
    """The GPU, or the CPU with the number of threads."""
    size: int
    """Bytes of the export."""
    latency: Latency
    """Of one batch."""
    batch: int
    score: float | None
    """Of the export; None without data, or where it does not take batches of other sizes."""

    @property
    def samples_per_second(self) -> float:
        """How many samples pass in a second, batch by batch."""
        return 1000 * self.batch / self.latency.median


Score = Callable[[nn.Module], float]


def benchmark_exports(
    networks: Mapping[str, nn.Module],
    example: ExampleInput,
    deployments: Sequence[Deployment],
    score: Score | None = None,
    patience: Patience | None = None,
) -> tuple[list[Row], list[str]]:
    """Export networks in every format, and time and score them in every runtime.

    Args:
        networks: by name, on the CPU and in eval mode.
        example: an input of theirs.
        deployments: runtimes with the batch that is timed; all have the same batch.
        score: of a module, higher is better; None scores none.
        patience: how long passes are timed.

    Returns:
        Rows, those of one format and runtime beside each other, and notes on what is missing.
    """
    rows, notes = list[Row](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for where in deployments:
            formats = [FORMAT_OF[where.runtime.name]]
            formats += ["torchscript", "pt2"] if where.runtime.name == "eager" else []
            for name in formats:
                one = partial(_rows, name, networks, example, where, Path(folder), score, patience)
                try:
                    rows += one(notes)
                except ModelError as error:
                    notes.append(f"no {name} in {where.runtime.name}: {error}")
    return rows, list(dict.fromkeys(notes))


def _rows(
    format_name: str,
    networks: Mapping[str, nn.Module],
    example: ExampleInput,
    where: Deployment,
    folder: Path,
    score: Score | None,
    patience: Patience | None,
    notes: list[str],
) -> list[Row]:
    """Return the rows of one format in one runtime; the networks are timed in turn."""
    runtime, passes, modules, sizes = where.runtime, list[Pass](), list[nn.Module](), list[int]()
    for i, network in enumerate(networks.values()):
        file = folder / f"{i}.{format_name}"
        if not file.exists():
            export(network, file, example, format_name)
        sizes.append(_size(file))
        modules.append(load_export(format_name, file, network, example, runtime))
        passes.append(_pass_of(format_name, file, modules[-1], where))
    times = timed(passes, runtime, patience)
    return [
        Row(
            network=name,
            format=format_name,
            runtime=f"{runtime.name} {runtime.version}",
            hardware=runtime.hardware,
            size=size,
            latency=Latency.of(each),
            batch=where.conditions.batch,
            score=_score(score, module, runtime, format_name, notes),
        )
        for name, size, each, module in zip(networks, sizes, times, modules, strict=True)
    ]


def _pass_of(format_name: str, file: Path, module: nn.Module, where: Deployment) -> Pass:
    """Return a pass of an export, which has run once."""
    runtime = where.runtime
    if isinstance(runtime, OnnxBased):
        return runtime.pass_of_file(file, where.batch)
    if format_name == "python":
        return runtime.prepare(module, where.batch)
    one = partial(run_once, module.to(runtime.device), to_device_of(module, where.batch))
    try:
        with runtime.running():
            one()
    except Exception as error:
        raise ModelError(f"it fails on this batch: {one_line(error, 150)}") from error
    return one


def _score(
    score: Score | None, module: nn.Module, runtime: Runtime, format_name: str, notes: list[str]
) -> float | None:
    if score is None or runtime.name == "compile":  # its format is scored in eager PyTorch
        return None
    try:
        return score(module)
    except Exception as error:
        notes.append(f"no score of {format_name} in {runtime.name}: {one_line(error, 150)}")
        return None


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
