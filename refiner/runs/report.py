"""The report of a refinement: costs before and after, slot by slot, and scores."""

from dataclasses import dataclass

from refiner.runs import report_page, report_rows
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

    def comparison(self) -> str | None:
        """Return in one sentence whether the search beat its baselines; None without any."""
        return report_rows.baseline_comparison(self)

    def baseline_ahead(self) -> str | None:
        """Return how to take the best baseline, where it scores above the refined network."""
        return report_rows.baseline_ahead(self)

    def baseline_rows(self) -> list[tuple[str, ...]]:
        """Return rows of (what, MACs, parameters, score in the supernet, score after training)."""
        return report_rows.baseline_rows(self)
