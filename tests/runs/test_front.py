import json
import xml.etree.ElementTree as ET

from models import TinyResNet, images

from refiner.cost.costs import measure_cost
from refiner.runs.front import macs_shares, points, write_front
from refiner.runs.run_folder import RunFolder
from refiner.search.scoring import Scored
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space


def test_points_cost_what_the_rewritten_models_do(tmp_path) -> None:
    model, x = TinyResNet(width=4), images()
    space, before = search_space(model, x), measure_cost(model, x)
    vectors = [(0, 0, 0, 0), (1, 0, 0, 2), (1, 1, 1, 1)]
    scored = [Scored(vector=v, score=s) for v, s in zip(vectors, (0.5, 0.75, 0.25), strict=True)]
    found = points(space, before, scored)
    for point, vector in zip(found, vectors, strict=True):
        cost = measure_cost(rewrite(model, space.architecture(vector)), x)
        assert (point.macs, point.params, point.latency) == (cost.macs, cost.params, None)
    every, best = macs_shares(found, before)
    assert every[0] == (1.0, 0.5)
    assert best == [every[2], every[1]]  # the original costs more and scores less than the second
    folder = RunFolder.create(tmp_path / "run", {})
    write_front(folder, found, before, "accuracy")
    document = json.loads((folder.path / "pareto.json").read_text())
    assert [point["vector"] for point in document["front"]] == [[1, 1, 1, 1], [1, 0, 0, 2]]
    assert document["original"] == {"macs": before.macs, "params": before.params}
    assert ET.parse(folder.path / "pareto.svg").getroot().tag.endswith("svg")
