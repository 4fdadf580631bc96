"""The report of a refinement: costs before and after, slot by slot, and scores."""

from dataclasses import dataclass

from refiner.runs import report_page, report_rows, report_sentences
from refiner.runs.report_data import ReportData


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(ReportData):
    """What a refinement found, for people (Markdown) and for machines (JSON)."""

    def to_markdown(self) -> str:
        """Return the report as a Markdown page."""
        return report_page.markdown(self)

    def summary(self) -> list[tuple[str, str, str, str]]:
        """Return rows of (what, original, refined, change)."""
        return report_rows.summary_rows(self)

    def network_rows(self) -> list[tuple[str, ...]]:
        """Return the head, then a row for each network that was scored: costs and scores."""
        return [report_rows.network_head(self), *report_rows.network_rows(self)]

    def sentences(self) -> list[str]:
        """Return which images the scores are of, what the search goes by, and what agreement is."""
        return report_sentences.score_sentences(self)

    def comparison(self) -> str | None:
        """Return in one sentence whether the search beat its baselines; None without any."""
        return report_sentences.baseline_comparison(self)

    def baseline_ahead(self) -> str | None:
        """Return how to take the best baseline, where it is above the refined network."""
        return report_sentences.baseline_ahead(self)
