"""The script that runs every path on a GPU, at its smallest on the CPU."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_smoke.py"
QUICK = ["--device", "cpu", "--quick"]


@pytest.fixture
def smoke():
    spec = importlib.util.spec_from_file_location("gpu_smoke", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_path_passes_on_the_cpu() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, *QUICK], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    outcomes = re.findall(r"^(pass|skip|FAIL) +\d+\.\d s  ", done.stdout, flags=re.MULTILINE)
    assert len(outcomes) >= 25
    assert outcomes.count("pass") >= len(outcomes) - 1


def test_a_failing_path_does_not_stop_the_others(smoke, monkeypatch, capsys) -> None:
    def fails(_bench) -> None:
        raise ValueError("odd")

    def left_out(_bench) -> None:
        raise smoke.Skip("no such thing here")

    paths = {"first": fails, "second": left_out, "third": lambda _bench: None}
    monkeypatch.setattr(smoke, "PATHS", paths)
    assert smoke.main(QUICK) == 1
    _, *lines, total = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["FAIL", "skip", "pass"]
    assert re.search(r"first: ValueError: odd \(test_gpu_smoke.py, line \d+\)", lines[0])
    assert lines[1].endswith("second: no such thing here")
    assert total.startswith("1 passed, 1 failed, 1 skipped")
    assert smoke.main([*QUICK, "--only", "third"]) == 0


def test_every_strategy_budget_and_format_is_a_path(smoke) -> None:
    names = " | ".join(smoke.PATHS)
    for part in (
        "trace", "distillation", "controller", "milp", "random", "macs", "params", "latency", "bf16",
        "torchscript", "python", "onnx", "pt2", "resumed", "two processes", "eval", "workers",
        "fine-tuning",
    ):  # fmt: skip
        assert part in names
