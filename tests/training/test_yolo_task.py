import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops import box_convert, nms
from yolo_shapes import HEADS, outline, shapes, tiny_model

import refiner
from refiner.core.errors import ConfigError
from refiner.core.models import ModelSpec
from refiner.data.datasets import load_data
from refiner.training.agreement import Agreement
from refiner.training.teacher import WithTeacher
from refiner.training.yolo_task import YoloClassification, YoloDetection

pytest.importorskip("ultralytics")


@pytest.fixture(scope="module", params=HEADS)
def model(request, tmp_path_factory):
    source = "ultralytics:" + tiny_model(tmp_path_factory.mktemp("yolo"), request.param)
    return sure(ModelSpec(source=source, seed=3).build().eval())


def sure(model):
    """Return the model, as sure of some objects as a trained one."""
    with torch.no_grad():
        for _, classes in heads(model):
            for last in (branch[-1] for branch in classes):
                last.bias += 3
    return model


def heads(model) -> list[tuple[nn.ModuleList, nn.ModuleList]]:
    """Return the branches for boxes and for classes of each head."""
    last = model.model[-1]
    found = [(last.cv2, last.cv3)]
    return found + ([(last.one2one_cv2, last.one2one_cv3)] if hasattr(last, "one2one_cv2") else [])


def batch(images: int = 3, size: int = 32):
    generator = torch.Generator().manual_seed(1)
    truth = {
        "cls": torch.tensor([[0.0], [1.0], [0.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.3, 0.2, 0.5], [0.6, 0.5, 0.5, 0.3]]),
        "batch_idx": torch.tensor([0.0, 1.0, 1.0]),
        "masks": torch.zeros(images, size // 4, size // 4),
        "sem_masks": torch.zeros(images, size // 4, size // 4),
    }
    truth["masks"][0, 3:6, 3:6] = truth["masks"][1, 1:5, 1:4] = 1.0
    truth["masks"][1, 3:5, 4:7], truth["sem_masks"][1, 1:5, 1:4] = 2.0, 1.0
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


@pytest.mark.parametrize("model", ["segment"], indirect=True)
def test_masks_are_read_as_the_data_has_them(model) -> None:
    """Whatever the network was trained with."""
    other = copy.deepcopy(model)
    other.args = {**model.args, "overlap_mask": False}
    with torch.no_grad():
        first, second = (YoloDetection(m).loss(model, batch()) for m in (model, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("model", ["one", "yolo26"], indirect=True)
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
    hook = model.register_forward_hook(lambda _m, _a, out: dtypes.add(task.compared(out).dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        task.measure(model, batch())
        task.run(model, batch())
    hook.remove()
    assert dtypes == {torch.float32}


@pytest.mark.parametrize("what", ["boxes", "classes"])
def test_another_network_agrees_less(model, what) -> None:
    """Shifted biases of the classes, and shaken boxes, of one head at a time."""
    task = YoloDetection(model)
    agreement = Agreement(task, copy.deepcopy(model))
    for i in range(len(heads(model))):
        other = copy.deepcopy(model)
        boxes, classes = heads(other)[i]
        with torch.no_grad():
            for branch in classes if what == "classes" else boxes:
                bias = branch[-1].bias
                bias += 2 if what == "classes" else torch.randn(len(bias), generator=_generator())
            same, apart = (agreement.score(agreement.measure(m, batch())) for m in (model, other))
        assert same == pytest.approx(0, abs=1e-5)
        assert apart < -0.05


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_draws_say_what_a_small_change_costs(model) -> None:
    task = YoloDetection(model)
    z = maps(model, task)
    change = 0.01 * torch.randn(z.shape, generator=_generator())
    change = change.masked_fill(z == 0, 0.0)  # what fills up rows of prototypes
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
        heads(network)[0][1][0][-1].bias += 1
    loss = guided.loss(network, batch())
    loss.backward()
    assert loss.item() > 1e-3
    assert network.model[0].conv.weight.grad.abs().sum() > 0


def test_an_architecture_of_originals_equals_the_network_to_the_bit(model) -> None:
    task, x = YoloDetection(model), batch()[0]
    space = refiner.search_space(model, x)
    same = refiner.rewrite(model, space.architecture([0] * len(space.slots)))
    for training in (False, True):
        outputs = [task.compared(m.train(training)(x)) for m in (copy.deepcopy(model), same)]
        assert torch.equal(*outputs)


def test_other_classes_and_batches_without_masks_are_refused(model) -> None:
    task, (images, truth) = YoloDetection(model), batch()
    with pytest.raises(ConfigError, match="has 2 classes, and coco.yaml has 3"):
        task.check_classes(("a", "b", "c"), "coco.yaml")
    del truth["masks"]
    if task.metric == "mask mAP50-95":
        for use in (task.loss, task.measure):
            with pytest.raises(ConfigError, match=r"no masks\. Load them with .*masks=True"):
                use(model, (images, truth))


@pytest.mark.parametrize(
    ("head", "end_to_end"),
    [
        ("one", False),
        ("yolo26", False),
        ("yolo26", True),
        ("segment", False),
        ("yolo26-seg", True),
    ],
)
def test_the_score_is_that_of_ultralytics(tmp_path, monkeypatch, head, end_to_end) -> None:
    """On objects near to those that the network finds."""
    monkeypatch.chdir(tmp_path)
    source = "ultralytics:" + tiny_model(tmp_path, head)
    network = with_small_boxes(ModelSpec(source=source, seed=3).build().eval())
    network.end2end = end_to_end
    task, file = YoloDetection(network), shapes(tmp_path, outlines=True)
    options = {"batch_size": 6, "image_size": 64, "masks": task.metric == "mask mAP50-95"}
    (images, _), *_ = load_data(file, **options).val
    with torch.no_grad():
        for i, found in enumerate(task._detections(network(images))):
            apart = 0.01 if options["masks"] else 0.6  # a mask would hide others
            found = found[nms(found[:, :4], found[:, 4], apart)]
            boxes = box_convert((found[:, :4] / 64).clamp(0, 1), "xyxy", "cxcywh")
            boxes[:, 2:] *= torch.linspace(1, 0.6, len(boxes))[:, None]
            rows = torch.cat([found[:, 5:6], boxes], dim=1).tolist()
            text = (f"{int(row[0])} " + " ".join(map(str, row[1:])) for row in rows)
            Path(f"labels/val/{i}.txt").write_text("\n".join(map(outline, text)))
        (batch,) = load_data(file, **options).val
        score = task.score(task.measure(network, batch))
    torch.save({"model": network, "ema": None, "train_args": network.args}, "best.pt")
    from ultralytics import YOLO

    theirs = YOLO("best.pt").val(
        data=file, imgsz=64, batch=6, rect=False, device="cpu", workers=0, plots=False,
        verbose=False, project=str(tmp_path), nms=False if end_to_end else None,
    )  # fmt: skip
    expected = theirs.seg.map if options["masks"] else theirs.box.map
    assert 0.05 < score < 0.9
    assert score == pytest.approx(expected, abs=0.003)


def with_small_boxes(model):
    """Return the model, with boxes and classes that differ from one anchor to the next.

    Masks fill their boxes.
    """
    last, slope = model.train().model[-1], -0.7 if hasattr(model.model[-1], "proto") else -1.0
    with torch.no_grad():
        for _ in range(20):  # norms get statistics
            model(batch(size=64)[0])
        for boxes, classes in heads(model):
            for branch in boxes:
                branch[-1].weight *= 20
            for branch in classes:
                branch[-1].weight *= 100
                branch[-1].bias.fill_(-3.0)
            for branch in boxes:
                bins = len(branch[-1].bias) // 4
                sides = slope * torch.arange(bins).repeat(4) if bins > 1 else torch.ones(4)
                branch[-1].bias.copy_(sides)
        for name in ("cv4", "one2one_cv4"):
            for branch in getattr(last, name, ()):
                branch[-1].bias.fill_(10.0)
        if hasattr(last, "proto"):
            last.proto.cv3.bn.bias.fill_(5.0)
    return model.eval()


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
