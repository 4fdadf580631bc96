import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("transformers")
FILE = Path(__file__).resolve().parents[2] / "examples" / "transformers_classifier.py"


def test_the_example_goes_all_the_way() -> None:
    spec = importlib.util.spec_from_file_location("transformers_classifier", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scores = module.main(images=96, epochs=1)
    assert list(scores) == ["original", "refined", "loaded again", "trained on"]
    assert scores["loaded again"] == scores["refined"]
