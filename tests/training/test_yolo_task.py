import copy

import pytest
import torch
from torch import nn
from yolo_shapes import tiny_model

from refiner.core.errors import ConfigError
from refiner.core.models import ModelSpec
from refiner.training.agreement import Agreement
from refiner.training.teacher import WithTeacher
from refiner.training.yolo_task import YoloClassification, YoloDetection

pytest.importorskip("ultralytics")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    source = "ultralytics:" + tiny_model(tmp_path_factory.mktemp("yolo"))
    made = ModelSpec(source=source, seed=3).build().eval()
    with torch.no_grad():  # as a trained one: sure of something
        for last in (branch[-1] for branch in made.model[-1].cv3):
            last.bias += 3
    return made


def batch(images: int = 3, size: int = 32):
    generator = torch.Generator().manual_seed(1)
    truth = {
        "cls": torch.tensor([[0.0], [1.0], [0.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.3, 0.2, 0.5], [0.6, 0.5, 0.5, 0.3]]),
        "batch_idx": torch.tensor([0.0, 1.0, 1.0]),
    }
    return torch.rand(images, 3, size, size, generator=generator), truth


def maps(model, task):
    with torch.no_grad():
        return task.compared(model(batch()[0]))


def test_the_loss_is_that_of_ultralytics_for_an_image(model) -> None:
    own, (images, truth) = copy.deepcopy(model).train(), batch()
    loss = YoloDetection(model).loss(own, (images, truth))
    own.args = YoloDetection(model)._original.args
    expected, _ = own({**truth, "img": images})
    assert loss.item() == pytest.approx(expected.sum().item() / 3, rel=1e-5)
    loss.backward()
    assert all(p.grad is not None for n, p in own.named_parameters() if "dfl" not in n)


def test_true_boxes_that_are_found_score_most(model, monkeypatch) -> None:
    task, (images, truth) = YoloDetection(model), batch()
    found = [
        torch.tensor([[9.6, 9.6, 22.4, 22.4, 0.9, 0]]),
        torch.tensor([[6.4, 1.6, 12.8, 17.6, 0.9, 1], [11.2, 11.2, 27.2, 20.8, 0.8, 0]]),
        torch.zeros(0, 6),
    ]
    monkeypatch.setattr(task, "_detections", lambda _: found)
    assert task.score(task.measure(model, (images, truth))) == pytest.approx(0.995)
    monkeypatch.undo()
    assert 0 <= task.score(task.measure(model, (images, truth))) < 0.5


def test_boxes_are_computed_in_float32_under_autocast(model) -> None:
    task, dtypes = YoloDetection(model), set()
    hook = model.register_forward_hook(lambda _m, _a, output: dtypes.add(output[0].dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        task.measure(model, batch())
        task.run(model, batch())
    hook.remove()
    assert dtypes == {torch.float32}


@pytest.mark.parametrize("what", ["classes", "boxes"])
def test_another_network_agrees_less(model, what) -> None:
    """Shifted biases of the classes, and shaken boxes."""
    task, other = YoloDetection(model), copy.deepcopy(model)
    head = other.model[-1]
    with torch.no_grad():
        for branch in head.cv3 if what == "classes" else head.cv2:
            bias = branch[-1].bias
            bias += 2 if what == "classes" else torch.randn(len(bias), generator=_generator())
    agreement = Agreement(task, copy.deepcopy(model))
    with torch.no_grad():
        same, apart = (agreement.score(agreement.measure(m, batch())) for m in (model, other))
    assert same == pytest.approx(0, abs=1e-5)
    assert apart < -0.05


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_draws_say_what_a_small_change_costs(model) -> None:
    task = YoloDetection(model)
    z = maps(model, task)
    change = 0.01 * torch.randn(z.shape, generator=_generator())
    generator = _generator()
    drawn = [
        0.5 * (task.fisher_draw(z, generator) * change).sum(dim=(1, 2)).square().mean()
        for _ in range(2000)
    ]
    expected = task.divergence((z + change).double(), z.double())
    assert float(torch.stack(drawn).mean()) == pytest.approx(float(expected), rel=0.1)


def test_a_network_in_training_follows_its_teacher(model) -> None:
    task = YoloDetection(model)
    guided = WithTeacher(task, copy.deepcopy(model), weight=1.0)
    network = copy.deepcopy(model).train()
    for module in network.modules():  # as in the teacher
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    loss = guided.loss(network, batch())
    assert loss.item() == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        network.model[-1].cv3[0][-1].bias += 1
    loss = guided.loss(network, batch())
    loss.backward()
    assert loss.item() > 1e-3
    assert network.model[0].conv.weight.grad.abs().sum() > 0


def test_other_models_and_other_classes_are_refused(model) -> None:
    from ultralytics.nn import tasks

    with pytest.raises(ConfigError, match="detectors of ultralytics, and the model is a Linear"):
        YoloDetection(nn.Linear(2, 2))
    other = tasks.SegmentationModel("yolov8n-seg.yaml", verbose=False)
    with pytest.raises(ConfigError, match="detectors of ultralytics, and the model is"):
        YoloDetection(other)
    with pytest.raises(ConfigError, match="has two heads"):
        YoloDetection(ModelSpec(source="ultralytics:yolo26n.yaml").build())
    with pytest.raises(ConfigError, match="has 2 classes, and coco.yaml has 3"):
        YoloDetection(model).check_classes(("a", "b", "c"), "coco.yaml")


def test_a_classifier_is_compared_by_logits_in_either_mode() -> None:
    torch.manual_seed(0)
    network = ModelSpec(source="ultralytics:yolov8n-cls.yaml").build()
    x, task = torch.rand(2, 3, 32, 32), YoloClassification()
    with torch.no_grad():
        in_eval = task.compared(network.eval()(x))
        probabilities = network(x)[0]
        assert torch.allclose(in_eval.softmax(1), probabilities)
        network.model[-1].training = True  # its head alone is in train mode
        assert torch.equal(task.compared(network(x)), in_eval)
    sums = task.measure(network.eval(), (x, torch.zeros(2).long()))
    assert sums.tolist()[1] == 2
