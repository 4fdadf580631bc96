import json
from dataclasses import replace

import pytest
from models import TinyResNet, images

from refiner.core.errors import RunError
from refiner.cost.costs import measure_cost
from refiner.cost.latency import Latency
from refiner.runs.report import Report, Trained, change, slot_reports
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
        latency_before=2.0,
        latency_after=1.0,
        latency_noise=(0.25, 0.125),
        latency_predicted=(Latency(median=2.5, noise=0.5), Latency(median=1.25, noise=0.25)),
        metric="accuracy",
        trained=Trained(epochs=3, original=0.5, refined=0.75),
        settings=(("seed", "0"),),
        notes=("a note",),
    )


def test_json_round_trip(report: Report) -> None:
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report
    with pytest.raises(RunError, match="damaged"):
        Report.from_json({})


def test_a_report_written_before_noise_was_told_is_read(report: Report) -> None:
    document = report.to_json()
    del document["latency_noise"], document["latency_predicted"]
    rows = Report.from_json(document).summary()
    assert ("latency, batch 1, measured", "2.00 ms", "1.00 ms", "-50.0 %") in rows
    assert not any("predicted" in row[0] for row in rows)


def test_finalists_of_a_distilled_search_are_told_with_their_agreement(report: Report) -> None:
    plain = replace(report, top_k=(((1, 0, 0, 2), 0.5, None), ((0, 0, 0, 0), 0.25, None)))
    alike = replace(report, top_k=(((1, 0, 0, 2), 0.5, -0.125), ((0, 0, 0, 0), 0.75, -0.25)))
    for each in (plain, alike):
        assert Report.from_json(json.loads(json.dumps(each.to_json()))) == each
    document = plain.to_json() | {"top_k": [[[1, 0, 0, 2], 0.5], [[0, 0, 0, 0], 0.25]]}
    assert Report.from_json(document) == plain  # as written before agreement was told
    taken = "the first was taken, by accuracy and milliseconds as measured."
    assert taken in plain.to_markdown()
    page = replace(alike, latency_predicted=None).to_markdown()
    assert "the first was taken, by agreement to the original." in page
    assert "| 1,0,0,2 | 0.5000 | -0.1250 |" in page


def test_slots_add_up_to_the_whole(report: Report) -> None:
    saved = sum(s.before.macs - s.after.macs for s in report.slots)
    assert report.before.macs - report.after.macs == saved > 0
    assert report.slots[0].original == "conv3x3 4->4"
    assert report.slots[2].original == "conv3x3 4->8 /2"
    assert report.slots[3].operation == "maxpool3x3"


def test_the_page_holds_what_a_person_wants(report: Report) -> None:
    page = report.to_markdown()
    for text in (
        "`1,0,0,2`: 2 of 4 slots replaced",
        "| accuracy after 3 epochs | 0.5000 | 0.7500 | +0.2500 |",
        "| latency, batch 1, predicted | 2.50 ± 0.50 ms | 1.25 ± 0.25 ms | -50.0 % |",
        "| latency, batch 1, measured | 2.00 ± 0.25 ms | 1.00 ± 0.12 ms | -50.0 % |",
        "| block1.conv1 | conv3x3 4->4 | depthwise3x3 |",
        "| stem | stem: reads the model's input |",
        "native_batch_norm x 6",
        "- a note",
    ):
        assert text in page


def test_change() -> None:
    assert (change(200, 150), change(0, 1)) == ("-25.0 %", "n/a")
