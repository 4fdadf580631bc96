"""A small run that tests of trackers share, and what every tracker has to keep of it."""

from models import TinyResNet, batches

import refiner
from refiner.core.progress import Progress

EPOCHS = 2
SEARCH = refiner.SearchConfig(epochs=2, warmup_epochs=0, trials=4, samples=2, top_k=1)


def tracked(progress: Progress, **options) -> refiner.Result:
    return refiner.refine(
        TinyResNet(), batches(2), batches(1, seed=1), search=SEARCH, baselines=False,
        train=refiner.TrainConfig(epochs=EPOCHS), device="cpu", progress=progress, **options,
    )  # fmt: skip


def expected(result: refiner.Result) -> dict[str, float]:
    report = result.report
    return {
        "original/MACs": report.before.macs,
        "refined/MACs": report.after.macs,
        "refined/parameters": report.after.params,
        "refined/validation accuracy": report.trained.refined,
        "refined/milliseconds in eager": next(
            each.after.median for each in report.latencies if "eager" in each.conditions.runtime
        ),
    }
