import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from refiner.core.errors import ConfigError, DataError
from refiner.runs.plots import (
    assigned_reward_plot,
    best_reward_plot,
    coefficient_of_variation,
    front_plot,
    front_svg,
    gradient_plot,
)

SERIES = {"operators": [1.0, 1.1, 0.9, 1.0], "skips": [0.1, 3.0, 0.2, 2.0]}
REWARDS = [[0.1, 0.2, 0.3], [0.4, 0.2]]
CHOICES = [["a", "b", "c"], ["no skip", "skip"]]
FRONT = [(0.5, 0.75), (1.0, 0.5)]
DRAW = {
    "gradient": lambda path: gradient_plot(SERIES, path),
    "best": lambda path: best_reward_plot(SERIES, path),
    "assigned": lambda path: assigned_reward_plot(REWARDS, CHOICES, path),
    "front": lambda path: front_plot(FRONT, FRONT[:1], path, metric="accuracy"),
}
every_plot = pytest.mark.parametrize("name", list(DRAW))


@every_plot
def test_svg_is_xml_and_the_same_twice(name: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one.svg", tmp_path / "two.svg"
    DRAW[name](one)
    DRAW[name](two)
    assert ET.fromstring(one.read_text("utf-8")).tag == "{http://www.w3.org/2000/svg}svg"
    assert one.read_bytes() == two.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.svg", "two.svg"]


@every_plot
def test_png_is_one_and_the_same_twice(name: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one.PNG", tmp_path / "two.png"
    DRAW[name](one)
    DRAW[name](two)
    assert one.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert one.read_bytes() == two.read_bytes()


@every_plot
def test_another_suffix_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Let its name end in \.svg or \.png") as error:
        DRAW[name](tmp_path / "figure.pdf")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_front_as_an_element_is_that_of_the_file(tmp_path: Path) -> None:
    element = front_svg(FRONT, FRONT[:1], metric="accuracy")
    front_plot(FRONT, FRONT[:1], tmp_path / "front.svg", metric="accuracy")
    assert element.startswith("<svg")
    assert (tmp_path / "front.svg").read_text("utf-8").rstrip().endswith(element)
    with pytest.raises(DataError, match="no architecture"):
        front_svg([], [], metric="accuracy")


def test_a_panel_a_series_with_its_variation(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, file, **_: drawn.append((figure, file)))
        patch.setattr("refiner.runs.plots.put_in_place", lambda *_: None)
        gradient_plot(SERIES, tmp_path / "figure.svg")
    panels = drawn[0][0].axes
    assert [len(panel.lines) for panel in panels] == [1, 1]
    assert list(panels[1].lines[0].get_ydata()) == SERIES["skips"]
    assert panels[0].get_title() == "operators: coefficient of variation 0.07"
    assert panels[1].get_title() == "skips: coefficient of variation 0.93"


def test_settings_of_the_process_stay() -> None:
    code = """
import sys, pathlib, tempfile, refiner.runs.plots as plots
assert "matplotlib" not in sys.modules
import matplotlib
before = matplotlib.rcParams.copy()
plots.gradient_plot({"a": [1.0, 2.0]}, pathlib.Path(tempfile.mkdtemp()) / "a.png")
assert "matplotlib.pyplot" not in sys.modules
# Reading the backend would choose one, and import pyplot for it.
changed = [k for k in before if k != "backend" and before[k] != matplotlib.rcParams[k]]
sys.exit(len(changed))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_coefficient_of_variation_by_hand() -> None:
    assert coefficient_of_variation([1.0, 3.0]) == 0.5
    assert coefficient_of_variation([-1.0, -3.0]) == 0.5
    assert coefficient_of_variation([2.0]) == 0
    assert math.isnan(coefficient_of_variation([1.0, -1.0]))
    with pytest.raises(DataError, match="no value"):
        coefficient_of_variation([])


def test_nothing_to_plot_is_told(tmp_path: Path) -> None:
    path = tmp_path / "figure.svg"
    with pytest.raises(DataError, match="there is no series"):
        gradient_plot({}, path)
    with pytest.raises(DataError, match="series 'a' has no value"):
        best_reward_plot({"a": []}, path)
    with pytest.raises(DataError, match="one number for each candidate"):
        assigned_reward_plot([[1.0]], CHOICES, path)
    with pytest.raises(DataError, match="one number for each candidate"):
        assigned_reward_plot([], [], path)
