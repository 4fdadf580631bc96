import pytest

from refiner.core.errors import ConfigError, RunError
from refiner.runs.beginning import dropped_on_error, open_or_create


def test_of_several_processes_the_main_one_makes_the_folder_and_all_go_on(tmp_path) -> None:
    out = tmp_path / "run"
    assert open_or_create(out, False, {}, None, dict, main=False) is None
    assert not out.exists()
    with pytest.raises(ValueError, match="no"), dropped_on_error(None):
        raise ValueError("no")
    made = open_or_create(out, False, {}, None, dict, main=True)
    assert made is not None
    again = open_or_create(out, True, {}, None, dict, main=False)
    assert again is not None
    with pytest.raises(ValueError, match="no"), dropped_on_error(None):
        raise ValueError("no")
    assert out.exists()
    with pytest.raises(ValueError, match="no"), dropped_on_error(made):
        raise ValueError("no")
    assert not out.exists()


def test_a_run_goes_on_with_equal_settings_and_from_a_folder_alone(tmp_path) -> None:
    out = tmp_path / "run"
    open_or_create(out, False, {"seed": 0, "trials": 2}, None, dict, main=True)
    for settings in ({"seed": 1, "trials": 2}, {"seed": 0}, {"seed": 0, "trials": 2, "more": 1}):
        with pytest.raises(RunError, match="made with another setting"):
            open_or_create(out, True, settings, None, dict, main=True)
    with pytest.raises(ConfigError, match="out=DIR"):
        open_or_create(None, True, {}, None, dict, main=True)
    with pytest.raises(RunError, match="holds a run already"):
        open_or_create(out, False, {}, None, lambda: pytest.fail("read"), main=True)


def test_the_fingerprint_is_kept_and_compared(tmp_path) -> None:
    def of(weights: str) -> dict[str, dict[str, str]]:
        return {"versions": {"torch": "1"}, "parts": {"the weights of the model": weights}}

    open_or_create(tmp_path / "run", False, {}, None, lambda: of("a"), main=True)
    open_or_create(tmp_path / "run", True, {}, None, lambda: of("a"), main=True)
    with pytest.raises(RunError, match="the weights of the model differs"):
        open_or_create(tmp_path / "run", True, {}, None, lambda: of("b"), main=True)
