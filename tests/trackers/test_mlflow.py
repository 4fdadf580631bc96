import pytest
from trackers.runs import EPOCHS, expected, tracked

from refiner.trackers.mlflow import MLflow

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


def runs(client, experiment: str) -> list:
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id])


def test_a_run_is_read_back(client) -> None:
    result = tracked(MLflow("small", experiment="tests"))
    (run,) = runs(client, "tests")
    assert (run.info.run_name, run.info.status) == ("small", "FINISHED")
    assert run.data.params["train.lr_max"] == "0.1"
    metrics = {name: run.data.metrics[name] for name in expected(result)}
    assert metrics == pytest.approx(expected(result))
    for name, steps in (("search/mean score", [1, 2]), ("train refined/loss", [1, EPOCHS])):
        assert [m.step for m in client.get_metric_history(run.info.run_id, name)] == steps


def test_a_run_without_a_result_has_failed_and_names_are_made_fit(client) -> None:
    tracker = MLflow("broken", experiment="tests")
    tracker.settings({"a%b": "x" * 1000})
    tracker.epoch("train", 1, {"mIoU@0.5 (%)": 0.5})
    tracker.close()
    (run,) = runs(client, "tests")
    assert run.info.status == "FAILED"
    assert run.data.metrics == {"train/mIoU_0.5 ___": 0.5}
    assert list(run.data.params) == ["a_b"]
