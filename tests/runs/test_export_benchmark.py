import torch
from models import TinyResNet, images

from refiner.core.errors import ModelError
from refiner.cost.deployment import Deployment
from refiner.runs import export_benchmark
from refiner.runs.export_benchmark import benchmark_exports
from refiner.runtimes.onnx_runtime import OnnxRuntime
from refiner.runtimes.timing import Patience

CPU = torch.device("cpu")
SHORT = Patience(repeats=2, most=2, warm_up=1)


def deployments(*names: str) -> list[Deployment]:
    return [Deployment.choose(images(1), runtime=name, device=CPU, batch=2) for name in names]


def test_each_network_has_a_row_in_each_format_and_runtime() -> None:
    networks = {"original": TinyResNet(width=8).eval(), "refined": TinyResNet(width=4).eval()}
    scored = []

    def score(module: torch.nn.Module) -> float:
        with torch.no_grad():
            scored.append(module(images(3)))
        return float(len(scored))

    rows, notes = benchmark_exports(
        networks, images(1), deployments("eager", "onnxruntime"), score, SHORT
    )
    assert notes == []
    assert [(row.network, row.format, row.runtime.split()[0]) for row in rows] == [
        (network, name, runtime)
        for name, runtime in (
            ("python", "eager"), ("torchscript", "eager"), ("pt2", "eager"), ("onnx", "onnxruntime"),
        )
        for network in networks
    ]  # fmt: skip
    assert all(row.size > 1000 and row.latency.median > 0 and row.batch == 2 for row in rows)
    assert all(a.size > b.size for a, b in zip(rows[::2], rows[1::2], strict=True))
    assert rows[0].samples_per_second == 2000 / rows[0].latency.median
    assert [row.score for row in rows] == [float(i + 1) for i in range(8)]
    for outputs in scored[2::2]:
        torch.testing.assert_close(outputs, scored[0], rtol=1e-4, atol=1e-4)


def test_what_cannot_be_exported_or_scored_is_a_note(monkeypatch) -> None:
    def fails(network, path, example, name):
        raise ModelError(f"{name} cannot hold this model.")

    def score(module: torch.nn.Module) -> float:
        raise RuntimeError("no batches of other sizes")

    networks = {"original": TinyResNet().eval()}
    rows, notes = benchmark_exports(networks, images(1), deployments("onnxruntime"), score, SHORT)
    assert [row.score for row in rows] == [None]
    assert notes == ["no score of onnx in onnxruntime: RuntimeError: no batches of other sizes"]
    monkeypatch.setattr(export_benchmark, "export", fails)
    rows, notes = benchmark_exports(networks, images(1), deployments("onnxruntime"), None, SHORT)
    assert rows == []
    assert notes == ["no onnx in onnxruntime: onnx cannot hold this model."]


def test_what_is_timed_is_the_exported_file(monkeypatch) -> None:
    seen = []
    plain = OnnxRuntime.pass_of_file
    monkeypatch.setattr(OnnxRuntime, "prepare", None)
    monkeypatch.setattr(
        OnnxRuntime,
        "pass_of_file",
        lambda self, file, example: (
            seen.append((file.suffix, len(example))) or plain(self, file, example)
        ),
    )
    networks = {"original": TinyResNet().eval()}
    rows, notes = benchmark_exports(networks, images(1), deployments("onnxruntime"), None, SHORT)
    assert (len(rows), notes, seen) == (1, [], [(".onnx", 2)])
