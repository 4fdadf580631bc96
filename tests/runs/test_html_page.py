import re
from dataclasses import replace
from html.parser import HTMLParser

from refiner.graph.slots import Frozen
from refiner.runs.comparison import Baseline
from refiner.runs.drawing import Box, Drawing
from refiner.runs.html_files import Extras
from refiner.runs.html_page import html_page, write_page
from refiner.runs.report import Report
from refiner.runs.run_folder import RunFolder
from refiner.search.pareto import Point

SCRIPT = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J"
VOID = {"meta", "path", "circle", "line", "rect"}


class Reader(HTMLParser):
    """Keeps the elements of a page, its attributes, each h2, and the rows of its tables."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.heads: list[str] = []
        self.rows: list[tuple[str, ...]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append(())
        elif tag in ("th", "td"):
            self.rows[-1] += ("",)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] == "h2":
            self.heads.append(data)
        if {"th", "td"} & set(self.open):
            *before, last = self.rows[-1]
            self.rows[-1] = (*before, last + data.strip())


def whole(report: Report, text: str) -> tuple[Report, Extras]:
    """Return a report and its extras with all that a page shows, and ``text`` in all names."""
    baseline = Baseline(
        kind="random", name=text, vector=(1, 1, 1, 1), macs=40, params=5, search_score=0.25
    )
    report = replace(
        report, search_score=0.5, baselines=(baseline,), metric=text, notes=(text,),
        slots=tuple(replace(slot, name=text, original=text, operation=text) for slot in report.slots),
        frozen=(Frozen(name=text, reason=text),), before=replace(report.before, uncounted=(text,)),
        settings=(("model", text), ("budget", text), (text, text)),
    )  # fmt: skip
    front = (Point(vector=(2, 2, 2, 2), score=0.5, macs=50, params=5, latency=1.0),)
    return report, Extras(
        source=text, front=front, original={"macs": 100.0, "latency": 2.0},
        records=({"epoch": 1, "phase": text, "loss": 0.5, "updates": [{"scores": [0.5]}]},),
        drawing=Drawing((Box("slot", (text, text), text, slot=text), Box("frozen", (text,), text)), ()),
    )  # fmt: skip


def test_sections_stand_in_their_order(report: Report) -> None:
    page = html_page(*whole(report, "resnet"))
    assert Reader(page).heads == [
        "Costs and scores", "Pareto front", "Slots", "Network", "Training and search",
        "How it was measured", "Settings",
    ]  # fmt: skip
    assert page.index('class="figures"') < page.index("Costs and scores")
    assert page.index("<details>", page.index("Settings</h2>")) < page.index("All 3 settings")
    plain = Reader(html_page(report, Extras()))
    assert "<li>a note</li>" in html_page(report, Extras())
    assert plain.heads == ["Costs and scores", "Slots", "How it was measured", "Settings"]


def test_the_rows_are_those_of_the_markdown(report: Report) -> None:
    rows = Reader(html_page(report, Extras())).rows
    assert rows[1 : len(report.summary()) + 1] == report.summary()
    assert {*report.network_rows(), *report.settings} < set(rows)


def test_names_from_a_folder_are_text_and_never_elements(report: Report) -> None:
    tame, wild = (Reader(html_page(*whole(report, text))) for text in ("resnet", SCRIPT))
    assert wild.tags == tame.tags
    assert wild.attributes == tame.attributes
    assert not wild.open
    page = html_page(*whole(report, SCRIPT))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page


def test_a_page_needs_no_network_and_no_script(report: Report) -> None:
    page = html_page(*whole(report, "resnet"))
    assert "Content-Security-Policy\" content=\"default-src 'none'" in page
    assert not {"script", "link", "img", "iframe", "object"} & set(Reader(page).tags)
    assert not {"src", "href", "srcset"} & Reader(page).attributes
    assert not re.search(r"https?:|@import|url\((?!#)", page)


def test_the_page_is_written_in_one_piece(tmp_path, report: Report) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    write_page(folder, report)
    page = (folder.path / "report.html").read_text("utf-8")
    assert page == html_page(report, Extras())
    assert {p.name for p in folder.path.iterdir()} == {"config.json", "report.html"}
