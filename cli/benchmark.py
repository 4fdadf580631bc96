"""``refine benchmark``: a network in every export format and runtime, the original beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from refiner.core.batches import first_sample
from refiner.core.errors import ConfigError
from refiner.core.inputs import ExampleInput
from refiner.cost.deployment import Deployment
from refiner.runs.export_benchmark import Row, Score, benchmark_exports
from refiner.runs.job import Job
from refiner.runs.network_scores import scores_outputs
from refiner.runtimes.choice import check_runtime, runtimes_here
from refiner.training.evaluation import evaluate

from .consent import Consent
from .declared import Given
from .eval import model_job, run_networks
from .request import RunRequest
from .tables import print_table, say


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the command line says of the timing."""

    runtimes: Sequence[str]
    """Names; empty takes all that are at hand."""
    threads: int | None
    batch: int

    def check(self) -> None:
        """Raise a ConfigError where something cannot be."""
        for name in self.runtimes:
            check_runtime(name)
        for option, number in (("--threads", self.threads), ("--latency-batch", self.batch)):
            if number is not None and number < 1:
                raise ConfigError(f"{option} is {number}. Give 1 or more.")

    def deployments(self, job: Job, example: ExampleInput) -> list[Deployment]:
        """Return a deployment for each runtime."""
        device = job.devices.device
        return [
            Deployment.choose(
                example, runtime=name, device=device, precision=job.devices.precision,
                threads=self.threads, batch=self.batch,
            )
            for name in dict.fromkeys(self.runtimes or runtimes_here(device))
        ]  # fmt: skip


def benchmark_model(request: RunRequest, timing: Timing, *, as_json: bool) -> None:
    """Benchmark the model that a command names, on the data that it names."""
    timing.check()
    job, _, notes = model_job(request)
    _show(job, {"original": job.model}, timing, notes, as_json=as_json)


def benchmark_run(
    folder: Path, given: Given, timing: Timing, *, consent: Consent, as_json: bool
) -> None:
    """Benchmark the original and the refined network of a run, by default on the run's data.

    Raises:
        RunError: the run has not ended, Python code made it, or it names code of the user's own.
    """
    timing.check()
    found = run_networks(folder, given, consent=consent, command="refine benchmark", weights=True)
    networks = {"original": found.original, "refined": found.refined}
    _show(found.job, networks, timing, found.notes, as_json=as_json)


def _show(
    job: Job,
    networks: Mapping[str, nn.Module],
    timing: Timing,
    notes: Sequence[str],
    *,
    as_json: bool,
) -> None:
    networks = {name: network.cpu().eval() for name, network in networks.items()}
    example = first_sample(job.example)
    where = timing.deployments(job, example)
    rows, missing = benchmark_exports(networks, example, where, _score_of(job))
    notes = [*notes, *missing]
    if as_json:
        shown = [{**asdict(row), "samples_per_second": row.samples_per_second} for row in rows]
        document = {"metric": job.task.metric}
        print(json.dumps({**document, "rows": shown, "notes": notes}))
        return
    batch = where[0].conditions.batch
    print_table(
        f"On {', '.join(dict.fromkeys(row.hardware for row in rows))}, batch {batch}",
        ("network", "format", "runtime", "size", "latency", "samples/s", job.task.metric),
        [_cells(row) for row in rows],
        left=3,
    )
    for note in notes:
        say(f"note: {note}")


def _cells(row: Row) -> tuple[str, ...]:
    score = "" if row.score is None else f"{row.score:.4f}"
    rate = f"{row.samples_per_second:,.0f}"
    size = f"{row.size / 2**20:.2f} MiB"
    return (row.network, row.format, row.runtime, size, str(row.latency), rate, score)


def _score_of(job: Job) -> Score | None:
    """Return what scores a module on the test part, or on the validation part without one."""
    if not scores_outputs(job.task):
        return None
    return lambda module: evaluate(
        module, job.devices.batches(job.report_loader), job.task, job.devices
    )
