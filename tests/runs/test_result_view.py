import xml.etree.ElementTree as ET
from dataclasses import replace
from html import escape

from refiner.runs.front import macs_shares
from refiner.runs.plots import front_svg
from refiner.runs.report import Report
from refiner.runs.result_view import as_html, as_text
from refiner.search.pareto import Point

POINTS = (
    Point(vector=(1, 0, 0, 2), score=0.75, macs=50_000, params=400),
    Point(vector=(0, 0, 0, 0), score=0.5, macs=100_000, params=900),
)
EVIL = "<script>alert('x')</script> & $_{"


def test_text_is_a_few_lines(report: Report) -> None:
    macs = f"{report.before.macs:,} -> {report.after.macs:,}"
    lines = as_text("TinyResNet", report).splitlines()
    assert lines[0] == "Result: TinyResNet, architecture 1,0,0,2 (2 of 4 slots replaced)"
    assert lines[1].startswith(f"  MACs: {macs} (-")
    assert lines[2:] == [
        "  test accuracy before fine-tuning: 0.6250 -> 0.2500 (-0.3750)",
        "  test accuracy after 3 epochs: 0.5000 -> 0.7500 (+0.2500)",
        "  All scores are of the test images, on which nothing was chosen.",
    ]


def test_text_without_training_has_the_score_of_the_search(report: Report) -> None:
    searched = replace(
        report, trained=None, original_score=None, refined_score=None, scored_on="validation",
        search_score=0.25, top_k=(((1, 0, 0, 2), 0.25, -0.5),)
    )  # fmt: skip
    assert as_text("TinyResNet", searched).splitlines()[2:] == [
        "  agreement in the search: 0.0000 -> -0.5000 (-0.5000)",
        "  validation accuracy in the search: 0.2500",
        "  All scores are of the validation images, on which choices were made, so they are "
        "optimistic: there is no test part. Add one with --test-data, or test_loader= in Python.",
    ]


def test_html_has_the_table_the_vector_and_the_front(report: Report) -> None:
    page = ET.fromstring(as_html("TinyResNet", report, POINTS))
    rows = [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]
    assert rows == [["", "original", "refined", "change"], *map(list, report.summary())]
    assert "architecture 1,0,0,2" in "".join(page.find("p").itertext())
    assert len(page.findall("{http://www.w3.org/2000/svg}svg")) == 1
    assert "<svg" not in as_html("TinyResNet", report, ())


def test_html_says_which_images_scores_are_of_and_labels_the_front(report: Report) -> None:
    distilled = replace(report, search_score=0.5, top_k=(((1, 0, 0, 2), 0.5, -0.5),))
    page = as_html("TinyResNet", distilled, POINTS)
    for sentence in distilled.sentences():
        assert escape(sentence) in page
    assert front_svg(*macs_shares(POINTS, report.before), metric="agreement") in page


def test_html_escapes_everything(report: Report) -> None:
    page = as_html(EVIL, replace(report, metric=EVIL), POINTS)
    assert "<script" not in page
    ET.fromstring(page)
