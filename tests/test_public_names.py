"""What users lean on, frozen: a change here is a change for them and belongs in the CHANGELOG."""

import subprocess
import sys

import refiner

NAMES = """
Architecture Candidate Classification ConvSpec Cost Data Detection DistillConfig Lines Listeners MLflow ModelSpec OwnLoss RefinerError RefitConfig Regression Report
Result Search SearchConfig SearchResult SearchSpace SeedsReport Segmentation Settings Slot Strategy Supernet Task TensorBoard TrainConfig WandB
YoloClassification YoloDetection
export find_slots from_pretrained lightning_task load_data load_lightning measure_cost measure_latency refine
register_candidate rewrite
search_space trace train train_architecture
""".split()


def test_public_names_are_frozen() -> None:
    assert sorted(refiner.__all__) == sorted(NAMES)


def test_every_public_name_is_there_and_documented() -> None:
    for name in refiner.__all__:
        assert getattr(refiner, name).__doc__, name


def test_functions_are_not_hidden_by_modules_of_their_name() -> None:
    for name in ("rewrite", "export", "refine", "trace", "train"):
        assert callable(getattr(refiner, name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(refiner, "no_such_name")


def test_import_of_the_package_is_light() -> None:
    code = "import refiner, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
