import json
import xml.etree.ElementTree as ET

from models import TinyResNet, images

from refiner.cost.costs import measure_cost
from refiner.runs.front import macs_shares, points, write_front
from refiner.runs.run_folder import RunFolder
from refiner.search.pareto import front
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
    write_front(folder, found, before, "agreement")
    document = json.loads((folder.path / "pareto.json").read_text())
    assert [point["vector"] for point in document["front"]] == [[1, 1, 1, 1], [1, 0, 0, 2]]
    assert [point["vector"] for point in document["beaten"]] == [[0, 0, 0, 0]]
    assert (document["format_version"], document["measure"]) == (2, "agreement")
    assert document["original"] == {"macs": before.macs, "params": before.params}
    assert ET.parse(folder.path / "pareto.svg").getroot().tag.endswith("svg")


def test_a_distilled_search_has_its_front_by_agreement() -> None:
    model, x = TinyResNet(width=4), images()
    space, before = search_space(model, x), measure_cost(model, x)
    scored = [
        Scored(vector=(1, 0, 0, 2), score=0.75, agreement=-0.5),
        Scored(vector=(1, 1, 1, 1), score=0.25, agreement=-0.25),
    ]
    found = points(space, before, scored)
    assert [(p.score, p.task_score) for p in found] == [(-0.5, 0.75), (-0.25, 0.25)]
    assert [p.vector for p in front(found)] == [(1, 1, 1, 1)]  # cheaper, and closer to the original
