"""A report as a Markdown page: one function for each section."""

from refiner.core.printable import harmless_markdown
from refiner.runs.report_data import ReportData, TopK
from refiner.runs.report_rows import SUMMARY_HEAD, network_head, network_rows, summary_rows
from refiner.runs.report_sentences import baseline_ahead, baseline_comparison, score_sentences
from refiner.runs.text import comma_separated, markdown_table


def markdown(report: ReportData) -> str:
    """Return the page; each section is followed by an empty line."""
    sections = (_head, _scores, _baselines, _top_k, _slots, _frozen, _counting, _settings)
    lines = [line for section in sections for line in section(report)]
    return harmless_markdown("\n".join(lines).rstrip("\n") + "\n")


def _head(report: ReportData) -> list[str]:
    replaced = sum(index != 0 for index in report.vector)
    origin = [f"Settings: {report.origin()}.", ""] if report.settings else []
    return [
        "# Refinement report",
        "",
        *origin,
        f"Architecture `{comma_separated(report.vector)}`: "
        f"{replaced} of {len(report.vector)} slots replaced.",
        "",
        *markdown_table(SUMMARY_HEAD, summary_rows(report)),
        "",
    ]


def _scores(report: ReportData) -> list[str]:
    sentences = score_sentences(report)
    if not sentences:
        return []
    return [
        "## Scores",
        "",
        " ".join(sentences),
        "",
        *markdown_table(network_head(report), network_rows(report)),
        "",
    ]


def _baselines(report: ReportData) -> list[str]:
    if not report.baselines:
        return []
    predicted = " (latency as predicted)" if report.latency_predicted else ""
    effort = (
        "Random search evaluated as many architectures as the search. "
        f"All baselines keep within the budgets{predicted}."
    )
    sentences = [baseline_comparison(report), effort]
    ahead = baseline_ahead(report)
    return [
        "## Baselines",
        "",
        " ".join(sentence for sentence in sentences if sentence),
        "",
        *([ahead, ""] if ahead else []),
        *(f"- {b.name}: `{comma_separated(b.vector)}`" for b in report.baselines),
        "",
    ]


def _top_k(report: ReportData) -> list[str]:
    if not report.top_k:
        return []
    times = " and by measured latency" if report.latency_predicted else ""
    return [
        "## Top architectures",
        "",
        "These architectures were scored in the supernet on the whole validation part. "
        f"The first was chosen, by {report.measure}{times}.",
        "",
        *markdown_table(
            ("architecture", report.metric, *(["agreement"] if report.distilled else [])),
            [_top_k_row(each) for each in report.top_k],
        ),
        "",
    ]


def _top_k_row(each: TopK) -> tuple[str, ...]:
    vector, *numbers = each
    return (comma_separated(vector), *(f"{n:.4f}" for n in numbers if n is not None))


def _slots(report: ReportData) -> list[str]:
    rows = [
        (
            slot.name,
            slot.original,
            slot.operation,
            f"{slot.before.macs:,} -> {slot.after.macs:,}",
            f"{slot.before.params:,} -> {slot.after.params:,}",
        )
        for slot in report.slots
    ]
    head = ("slot", "original", "operation", "MACs", "parameters")
    return ["## Slots", "", *markdown_table(head, rows), ""]


def _frozen(report: ReportData) -> list[str]:
    rows = [(conv.name, conv.reason) for conv in report.frozen]
    return ["## Frozen convs", "", *markdown_table(("conv", "reason"), rows), ""]


def _counting(report: ReportData) -> list[str]:
    uncounted = ", ".join(report.before.uncounted) or "none"
    notes = ["## Notes", "", *(f"- {note}" for note in report.notes), ""] if report.notes else []
    return [
        "## Counting",
        "",
        "One MAC is one multiply-accumulate in the forward pass of one sample, as PyTorch's "
        f"counter reports it. Operations of the original without counted MACs: {uncounted}.",
        "",
        *notes,
    ]


def _settings(report: ReportData) -> list[str]:
    if not report.settings:
        return []
    return ["## Settings", "", *markdown_table(("setting", "value"), report.settings), ""]
