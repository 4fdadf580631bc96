"""The sentences of a report: which images scores are of, and how the baselines fared."""

from refiner.runs.comparison import Baseline, comparison
from refiner.runs.report_data import TEST, VALIDATION, ReportData
from refiner.runs.text import comma_separated
from refiner.training.agreement import ERROR, LOGITS, OWN

_COMPARED = {
    LOGITS: "It is the negative KL divergence of class logits at temperature 4, times 16, in nats.",
    OWN: "It is the negative divergence that the task defines.",
    ERROR: "It is the negative squared error over the variance of the original's output.",
}
"""What agreement is, by the way in which outputs are compared."""


def score_sentences(report: ReportData) -> list[str]:
    """Return which images the scores are of, what the search goes by, and what agreement is."""
    known = (
        images_sentence(report),
        measure_sentence(report),
        agreement_sentences(report),
    )
    return [sentence for sentence in known if sentence is not None]


def images_sentence(report: ReportData) -> str | None:
    """Return which images the scores are of, and whether these flatter; None without any score."""
    searched = report.search_score is not None
    if report.trained is None and report.refined_score is None and not searched:
        return None
    if report.scored_on == TEST:
        chosen = "; the search chose on the validation images" if searched else ""
        return f"All scores are of the test images, on which nothing was chosen{chosen}."
    flattered = (
        "on which choices were made, so they are optimistic"
        if searched
        else "so they are optimistic if the architecture or the settings were chosen on these"
    )
    return (
        f"All scores are of the validation images, {flattered}: there is no test part. Add one "
        "with --test-data, or test_loader= in Python."
    )


def measure_sentence(report: ReportData) -> str | None:
    """Return the one figure that choices go by; None without a search."""
    if report.search_score is None:
        return None
    by = "agreement with the original" if report.distilled else report.metric
    return f"The search, the Pareto front and --pick go by {by} on the validation images."


def agreement_sentences(report: ReportData) -> str | None:
    """Return what agreement is; None where the search did not go by it."""
    if not report.distilled:
        return None
    says = (
        "Agreement says how close an architecture's outputs are to the original's, which itself "
        "scores 0."
    )
    known = _COMPARED.get(report.compared or "")  # older reports do not tell
    return says if known is None else f"{says} {known}"


def baseline_comparison(report: ReportData) -> str | None:
    """Return in one sentence whether the search beat its baselines; None where there are none."""
    name, ours, scores = report.score_name, None, {}
    if report.trained is not None:
        ours = report.trained.refined
        scores = {b.name: b.trained for b in report.baselines}
    elif report.refined_score is not None:
        name, ours = f"{name} before fine-tuning", report.refined_score
        scores = {b.name: b.score for b in report.baselines}
    else:
        name, ours = f"{report.measure} in the search", report.found
        scores = {b.name: report.found_of(b) for b in report.baselines}
    known = {name: score for name, score in scores.items() if score is not None}
    return comparison(name, ours, known) if known and ours is not None else None


def baseline_ahead(report: ReportData) -> str | None:
    """Return how to take the best baseline, where it is above the refined network.

    That is a choice, so it is made on the validation images.
    """
    if report.trained is None:
        name, ours = f"{report.measure} in the search", report.found
        scores = [(report.found_of(each), each) for each in report.baselines]
    else:
        plain = report.scored_on == VALIDATION  # older reports have no field of their own
        name = f"{VALIDATION} {report.metric}"
        ours = report.trained.refined if plain else report.trained.validation
        scores = [(each.trained if plain else each.validation, each) for each in report.baselines]
    known: list[tuple[float, Baseline]] = [(s, each) for s, each in scores if s is not None]
    best = max(known, key=lambda pair: pair[0], default=None)
    if best is None or ours is None or best[0] <= ours:
        return None
    score, baseline = best
    return (
        f"{baseline.name[0].upper()}{baseline.name[1:]} is ahead in {name}, {score:.4f} against "
        f"{ours:.4f}. To take it instead: refine apply DIR {comma_separated(baseline.vector)} (DIR "
        "is this run's folder)."
    )
