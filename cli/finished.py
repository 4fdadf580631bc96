"""``refine report`` and ``refine export``: what a finished run left."""

import webbrowser
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_model
from torch import nn

import refiner
from refiner.core.contents import from_json
from refiner.core.errors import RunError, one_line
from refiner.core.models import ModelSpec
from refiner.core.preprocessing import preprocessing_of
from refiner.core.types import JsonDict
from refiner.exports.exporting import check_any_size, check_format
from refiner.runs.html_page import FILE, write_page
from refiner.runs.report import Report
from refiner.runs.run_folder import RunFolder
from refiner.space.architecture import Architecture

from .compare import runs_in
from .consent import Consent
from .paths import check_new_file
from .recipes import show_recipe
from .run import print_run
from .run_deployment import check_onnx, onnx_deployment
from .tables import say

_EXPORTS = {
    "torchscript": "refined.ts",
    "python": "refined_python",
    "onnx": "refined.onnx",
    "pt2": "refined.pt2",
    "ultralytics": "refined_ultralytics.pt",
    "transformers": "refined_transformers",
    "lightning": "refined.ckpt",
}
"""Where an export of each format is written in the run's folder."""


def show_report(folder: Path, *, as_json: bool, in_browser: bool = False) -> None:
    """Print a run's report, and write report.md and report.html; of several runs what these left.

    Raises:
        RunError: the run has not ended, a file is damaged, or no browser can show the page.
    """
    if runs_in(folder) != [folder]:
        check_not_opened(folder, in_browser)
        show_recipe(folder, as_json=as_json)
        return
    run = RunFolder.open(folder)
    report = Report.from_json(run.read_json("report.json"))
    run.write_text("report.md", report.to_markdown())
    write_page(run, report)
    print_run(report, folder, as_json)
    page = folder / FILE
    if not as_json:
        say(f"page: {page}")
    if in_browser and not webbrowser.open(page.resolve().as_uri()):
        raise RunError(f"no browser can be opened here. Open {page} yourself.")


def check_not_opened(folder: Path, in_browser: bool) -> None:
    """Raise a RunError where ``--open`` is given for a folder of several runs."""
    if in_browser:
        raise RunError(f"{folder} holds several runs, and --open shows one. Name its folder.")


def run_architecture(run: RunFolder, instead: str) -> tuple[Architecture, JsonDict]:
    """Return what a run found, and how its model and its example input are made again.

    Args:
        run: the run.
        instead: what to do where that is unknown.

    Raises:
        RunError: the run has not ended, or Python code made its model.
    """
    run.read_json("architecture.json")
    architecture = Architecture.load(run.path / "architecture.json")
    made = architecture.model or {}
    if "spec" not in made or "example_input" not in made:
        raise RunError(
            f"{run.path} does not say how its model was made, since Python code made it. {instead}"
        )
    return architecture, made


def run_model(
    made: JsonDict, folder: Path, consent: Consent, command: str
) -> tuple[ModelSpec, nn.Module]:
    """Return how a run's model is made, and the model itself, with its weights.

    Args:
        made: what the run keeps of it.
        folder: of the run.
        consent: what the command line lets it run.
        command: that the user typed.

    Raises:
        RunError: the model is code of the user's own, and the command line does not name it.
    """
    spec = made["spec"]
    source = spec.get("source") if isinstance(spec, dict) else None
    with consent.given(folder, {"--model": source}, command):
        kept = ModelSpec.from_json(spec, folder, named=consent.sources, trust=consent.trust)
        kept = replace(kept, trust_weights=consent.trust_weights)
        return kept, kept.build()


def export_run(
    folder: Path,
    *,
    consent: Consent,
    export_format: str,
    to: Path | None,
    fold_norms: bool = False,
    any_size: bool = False,
) -> Path:
    """Build the refined model of a run again, export it, and return the file."""
    check_format(export_format)
    check_any_size(export_format, any_size=any_size)
    if to is not None:
        check_new_file(to)
    run = RunFolder.open(folder)
    architecture, made = run_architecture(run, "Use refiner.rewrite and refiner.export there.")
    example = from_json(made["example_input"])
    # A damaged folder is refused before the export.
    deployment = onnx_deployment(run, example) if export_format == "onnx" else None
    plain = {**made, "spec": _without_weights(made["spec"])}
    command = f"refine export {folder}"
    if export_format != "torchscript":
        command += f" --format {export_format}"
    _, original = run_model(plain, folder, consent, command)
    model = load_refined(refiner.rewrite(original, architecture), folder)
    target = to or folder / _EXPORTS[export_format]
    check_target(target)
    prepared = preprocessing_of(made)
    how = refiner.export(
        model, target, example, export_format, prepared, fold_norms=fold_norms, any_size=any_size
    )
    deployed = "" if deployment is None else check_onnx(*deployment, target, model, example)
    say("; ".join(filter(None, (f"{target}: {how}", deployed))))
    return target


def check_target(target: Path) -> None:
    """Raise a RunError where a file to write is a link."""
    if target.is_symlink():
        raise RunError(f"{target} is a link, which may lead anywhere. Name a place with --to.")


def load_refined(model: nn.Module, folder: Path) -> nn.Module:
    """Load the refined weights of a run into its network, and return that.

    Raises:
        RunError: the file is missing or damaged, or of another network.
    """
    file = folder / "refined.safetensors"
    if file.exists() and not file.is_file():  # a pipe would be waited for
        raise RunError(f"{file} cannot be loaded: it is not a regular file")
    try:
        load_model(model, str(file))
    except Exception as error:
        raise RunError(f"{file} cannot be loaded: {one_line(error)}") from error
    return model


def _without_weights(spec: object) -> object:
    """Return a spec without the original's weights, since those of the refined model follow.

    Published weights of timm need not be downloaded again. Those of torchvision change the network.
    """
    if not isinstance(spec, dict):
        return spec
    published = {"pretrained": False} if str(spec.get("source")).startswith("timm:") else {}
    return {**spec, "weights": None, **published}
