import pytest
from models import TinyResNet, images, measured_latency

from refiner.cost.costs import measure_cost
from refiner.cost.latency import Latency
from refiner.runs.report import Report
from refiner.runs.report_data import Trained
from refiner.runs.report_making import slot_reports
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space


@pytest.fixture
def report() -> Report:
    model, x = TinyResNet(width=4), images()
    space = search_space(model, x)
    architecture = space.architecture((1, 0, 0, 2))
    return Report(
        vector=architecture.vector,
        before=measure_cost(model, x),
        after=measure_cost(rewrite(model, architecture), x),
        slots=slot_reports(space, architecture),
        frozen=space.frozen,
        latencies=(measured_latency("eager 2", 2.0, 1.0),),
        latency_predicted=(Latency(median=2.5, noise=0.5), Latency(median=1.25, noise=0.25)),
        metric="accuracy",
        scored_on="test",
        original_score=0.625,
        refined_score=0.25,
        trained=Trained(epochs=3, original=0.5, refined=0.75, validation=0.875),
        settings=(("seed", "0"),),
        notes=("a note",),
    )
