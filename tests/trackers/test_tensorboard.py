import pytest
from trackers.runs import EPOCHS, expected, tracked

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from refiner.trackers.tensorboard import TensorBoard


def test_a_run_is_read_back(tmp_path) -> None:
    out = tmp_path / "run"
    result = tracked(TensorBoard(out / "tensorboard"), out=out)
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    last = {name: events.Scalars(name)[-1].value for name in events.Tags()["scalars"]}
    assert {name: last[name] for name in expected(result)} == pytest.approx(expected(result))
    for name in ("search/mean score", "search/loss"):
        assert [each.step for each in events.Scalars(name)] == [1, 2]
    assert [each.step for each in events.Scalars("train refined/lr")] == [1, EPOCHS]
    assert last["train refined/accuracy"] == pytest.approx(result.report.trained.validation)
    assert last["progress/train refined"] == 1.0
    text = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| train.lr_max | 0.1 |" in text
    assert events.PluginTagToContent("hparams"), "the settings are hyperparameters, too"
