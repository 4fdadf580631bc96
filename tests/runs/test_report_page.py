from dataclasses import replace

from refiner.runs.comparison import Baseline
from refiner.runs.report import Report
from refiner.runs.report_page import markdown


def test_the_page_holds_what_a_person_wants(report: Report) -> None:
    page = markdown(report)
    for text in (
        "`1,0,0,2`: 2 of 4 slots replaced",
        "| test accuracy before fine-tuning | 0.6250 | 0.2500 | -0.3750 |",
        "| test accuracy after 3 epochs | 0.5000 | 0.7500 | +0.2500 |",
        "| latency in eager, batch 1, predicted | 2.50 ± 0.50 ms | 1.25 ± 0.25 ms | -50.0 % |",
        "| latency in eager, batch 1 | 2.00 ± 0.25 ms | 1.00 ± 0.12 ms | -50.0 % |",
        "| block1.conv1 | conv3x3 4->4 | depthwise3x3 |",
        "| stem | stem: reads the model's input |",
        f"Operations of the original without counted MACs: {', '.join(report.before.uncounted)}.",
        "- a note",
        "| seed | 0 |",
    ):
        assert text in page
    assert "\n\n\n" not in page
    assert page.endswith("|\n")
    assert "## Baselines" not in page


def test_the_top_k_of_a_distilled_search_has_its_agreement(report: Report) -> None:
    plain = replace(report, top_k=(((1, 0, 0, 2), 0.5, None), ((0, 0, 0, 0), 0.25, None)))
    assert "The first was chosen, by accuracy and by measured latency." in markdown(plain)
    assert "Agreement says" not in markdown(plain)
    distilled = replace(
        report, top_k=(((1, 0, 0, 2), 0.5, -0.125),), latency_predicted=None, search_score=0.5
    )  # fmt: skip
    page = markdown(distilled)
    assert "The first was chosen, by agreement." in page
    assert "Agreement says how close" in page
    assert "| architecture | accuracy | agreement |" in page
    assert "| 1,0,0,2 | 0.5000 | -0.1250 |" in page


def test_baselines_stand_in_a_section(report: Report) -> None:
    baseline = Baseline(
        kind="random", name="random search", vector=(1, 1, 1, 1), macs=3000, params=400,
        search_score=0.5, trained=0.875, validation=0.9375,
    )  # fmt: skip
    page = markdown(replace(report, search_score=0.25, baselines=(baseline,)))
    for text in (
        "Random search evaluated as many architectures as the search. All baselines keep within "
        "the budgets (latency as predicted).",
        "To take it instead: refine apply DIR 1,1,1,1",
        "- random search: `1,1,1,1`",
        "accuracy in the search | test accuracy before fine-tuning | test accuracy after 3 epochs |",
        "| random search | 3,000 | 400 | 0.5000 |  | 0.8750 |",
        "All scores are of the test images, on which nothing was chosen; the search chose on the "
        "validation images. The search, the Pareto front and --pick go by accuracy",
    ):
        assert text in page
