import json

from models import searched

from refiner.runs.fine_tuning import fine_tune
from refiner.runs.job import in_folder
from refiner.runs.selection import select
from refiner.runs.writing import finish


def test_a_result_is_what_was_written(tmp_path) -> None:
    job, settings, costed, search, found = searched(out=tmp_path / "run")
    with in_folder(job, settings.to_json(costed.space)) as job:
        selection = select(job, settings, costed, search, found, [])
    trained, baselines = fine_tune(job, settings.train, selection)
    result = finish(job, settings, costed, selection, trained, baselines)
    assert not result.model.training
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert tuple(report["vector"]) == result.architecture.vector == found.best.vector
    front = json.loads((tmp_path / "run" / "pareto.json").read_text())
    assert front["original"]["macs"] == report["before"]["macs"]
