import json
import struct

import pytest
from trackers.runs import EPOCHS, expected, tracked

from refiner.trackers.wandb import WandB

wandb = pytest.importorskip("wandb")
wandb_internal_pb2 = pytest.importorskip("wandb.proto.wandb_internal_pb2")


def records(folder) -> list:
    """Return what an offline run wrote: a log of LevelDB's format, in blocks of 32 KiB."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data, place, parts, found = file.read_bytes(), 7, b"", []
    while place < len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(wandb_internal_pb2.Record())
            found[-1].ParseFromString(parts)
            parts = b""
    return found


def named(items) -> dict:
    return {each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in items}


def test_a_run_is_read_back(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    result = tracked(WandB("small", project="tests"))
    wandb.teardown()  # its service writes the file in a process of its own
    kept = records(tmp_path)
    run = next(each.run for each in kept if each.HasField("run"))
    assert (run.project, run.display_name) == ("tests", "small")
    assert named(run.config.update)["train.lr_max"] == "0.1"
    rows = [named(each.history.item) for each in kept if each.HasField("history")]
    epochs = [row for row in rows if "train refined/lr" in row]
    assert [row["train refined/step"] for row in epochs] == [1, EPOCHS]
    assert sum("search/mean score" in row for row in rows) == 2
    summary: dict = {}
    for each in kept:
        if each.HasField("summary"):
            summary |= named(each.summary.update)
    assert {name: summary[name] for name in expected(result)} == pytest.approx(expected(result))
    assert next(each.exit.exit_code for each in kept if each.HasField("exit")) == 0
