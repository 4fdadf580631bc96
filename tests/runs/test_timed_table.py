import torch
from models import TinyResNet, batches

import refiner
from refiner.cost.budget import parse_budgets
from refiner.cost.deployment import Deployment
from refiner.cost.slot_latencies import latency_table
from refiner.runs import timed_table as module
from refiner.runs.job import Output, set_up
from refiner.runs.timed_table import NETWORKS, timed_table
from refiner.runtimes.timing import Patience
from refiner.training.devices import Devices

SHORT = Patience(repeats=2, most=2, warm_up=0)


def test_the_table_learns_from_networks_that_use_the_budget_up(monkeypatch) -> None:
    torch.manual_seed(0)
    job = set_up(
        TinyResNet(width=8), batches(1), batches(1), task="classification", example_input=None,
        seed=0, devices=Devices.choose("cpu"), output=Output(progress=False),
    )  # fmt: skip
    space = refiner.search_space(job.model, job.example)
    where = Deployment.choose(job.example, device=torch.device("cpu"))

    def quickly(space, model, deployment, **_):
        return latency_table(
            space, model, deployment, anchors=2, patience=SHORT, whole_patience=SHORT
        )

    monkeypatch.setattr(module, "latency_table", quickly)
    (budget,) = parse_budgets("macs=80%")
    table = timed_table(job, space, [budget], where)
    assert 2 < len(table.anchors) <= 2 + 2 * NETWORKS
    limit = budget.most(refiner.measure_cost(job.model, job.one).macs)
    for anchor in table.anchors[2:]:
        names = [anchor.operations.get(slot.name, "original") for slot in space.slots]
        vector = [row.index(n) for row, n in zip(space.candidates, names, strict=True)]
        network = refiner.rewrite(job.model, space.architecture(vector))
        assert refiner.measure_cost(network, job.one).macs <= limit
    out_of_reach = parse_budgets("macs=1%")
    assert len(timed_table(job, space, out_of_reach, where).anchors) == 2
