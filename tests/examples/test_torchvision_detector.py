import importlib.util
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "examples" / "torchvision_detector.py"


def test_the_example_goes_all_the_way() -> None:
    spec = importlib.util.spec_from_file_location("torchvision_detector", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scores = module.main(images=32, epochs=1, steps=2)
    assert list(scores) == ["original", "refined"]
    assert all(0 <= score <= 1 for score in scores.values())
