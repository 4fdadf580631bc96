import sys

import pytest

from refiner.core.errors import ConfigError
from refiner.trackers.choice import TRACKERS, make_trackers


def test_a_wrong_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no tracker 'tensorbord'. Did you mean tensorboard"):
        make_trackers(["tensorbord"], "run")
    with pytest.raises(ConfigError, match="Choose from: tensorboard, wandb, mlflow"):
        make_trackers(["x"], "run")


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_found_before_anything_is_logged(name, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ConfigError, match=rf"pip install 'refiner\[{name}\]'"):
        make_trackers([name], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_comes_twice_makes_one(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    (one,) = make_trackers(["tensorboard", "tensorboard"], tmp_path)
    assert one.folder == str(tmp_path / "tensorboard")
