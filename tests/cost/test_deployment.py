import torch
from models import TinyResNet, images

from refiner.cost.deployment import Deployment
from refiner.runtimes.timing import Patience

CPU = torch.device("cpu")


def test_a_deployment_is_a_runtime_and_a_batch() -> None:
    where = Deployment.choose(images(1), runtime="eager", device=CPU, threads=1, batch=3)
    assert where.batch.shape == (3, 3, 8, 8)
    assert (where.conditions.batch, where.conditions.device) == (3, where.runtime.hardware)
    found = where.latencies([TinyResNet(), TinyResNet()], Patience(repeats=2, most=2, warm_up=0))
    assert all(each.median > 0 for each in found)


def test_reports_show_eager_and_onnxruntime_beside_it() -> None:
    def names(runtime: str, device: torch.device = CPU) -> list[str]:
        where = Deployment.choose(images(1), runtime=runtime, device=device)
        return [each.runtime.name for each in where.beside(device)]

    assert names("auto") == ["onnxruntime", "eager"]
    assert names("eager") == ["eager", "onnxruntime"]
    assert names("openvino") == ["openvino", "eager", "onnxruntime"]
    beside = Deployment.choose(images(1), device=CPU, threads=3).beside(CPU)
    assert all(each.runtime.hardware.endswith("3 threads") for each in beside)
    assert names("auto", torch.device("meta")) == ["eager"]
