"""The report as one HTML file, which loads nothing and runs nothing.

Texts of a run's folder are data. The template escapes each of them, and a content security policy
forbids scripts and the network.
"""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from refiner.core.printable import printable
from refiner.runs.drawing_svg import drawing_element
from refiner.runs.html_curves import loss_plot, trials_plot
from refiner.runs.html_figures import figures, heading
from refiner.runs.html_files import Extras, folder_extras
from refiner.runs.html_front import front_plot, front_rows
from refiner.runs.html_slots import slot_rows
from refiner.runs.report_data import ReportData
from refiner.runs.report_rows import SUMMARY_HEAD, network_head, network_rows, summary_rows
from refiner.runs.report_sentences import baseline_ahead, baseline_comparison, score_sentences
from refiner.runs.run_folder import RunFolder
from refiner.runs.text import comma_separated

FILE = "report.html"


def write_page(folder: RunFolder, report: ReportData) -> None:
    """Write report.html into a run's folder, from the report and the files that are there.

    Raises:
        RunError: a file of the folder is damaged, or written by a newer refiner.
    """
    folder.write_text(FILE, html_page(report, folder_extras(folder)))


def html_page(report: ReportData, extras: Extras) -> str:
    """Return the page of a report; ``extras`` is what else the run's folder holds."""
    loader = PackageLoader("refiner.runs", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return printable(environment.get_template(f"{FILE}.jinja").render(**_content(report, extras)))


def _content(report: ReportData, extras: Extras) -> dict[str, Any]:
    """Return what the template shows, by the names that it uses."""
    conditions = [each.conditions for each in report.latencies]
    known = {f"latency measured {each}" for each in conditions}
    front = front_plot(report, extras)
    curves = (loss_plot(extras.records), trials_plot(extras.records, report.measure))
    settings = dict(report.settings)
    sentences = [*score_sentences(report), baseline_comparison(report), baseline_ahead(report)]
    return {
        "heading": heading(report, extras.source),
        "origin": report.origin(),
        "budget": settings.get("budget"),
        "vector": comma_separated(report.vector),
        "replaced": sum(index != 0 for index in report.vector),
        "figures": figures(report),
        "summary": [SUMMARY_HEAD, *summary_rows(report)],
        "networks": [network_head(report), *network_rows(report)],
        "sentences": [sentence for sentence in sentences if sentence],
        "front": front,
        "front_rows": front_rows(report, extras) if front else [],
        "slots": slot_rows(report, extras.latencies),
        "slot_conditions": None if extras.latencies is None else extras.latencies.conditions,
        "network": _network_svg(report, extras),
        "frozen": [("conv", "reason"), *((conv.name, conv.reason) for conv in report.frozen)],
        "curves": [curve for curve in curves if curve],
        "conditions": conditions,
        "uncounted": ", ".join(report.before.uncounted) or "none",
        "notes": [note for note in report.notes if note not in known],
        "settings": [("setting", "value"), *report.settings],
    }


def _network_svg(report: ReportData, extras: Extras) -> str | None:
    """Return the drawing of the refined network; its texts are escaped there."""
    if extras.drawing is None:
        return None
    operations = {slot.name: slot.operation for slot in report.slots}
    return drawing_element(extras.drawing, operations)
