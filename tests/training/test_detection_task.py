import copy

import pytest
import torch
from small_detectors import KINDS, batch, collate, shapes, small
from torch import nn
from torch.utils.data import DataLoader

from refiner.core.errors import ConfigError, DataError
from refiner.core.randomness import seeded
from refiner.training.agreement import Agreement
from refiner.training.detection_task import Detection
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig, train
from refiner.training.task import make_task
from refiner.training.teacher import WithTeacher

every_kind = pytest.mark.parametrize("kind", KINDS)


class Own(nn.Module):
    """A detector of another library with torchvision's interface: it finds the true boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.found = [
            {**target, "scores": torch.full((len(target["boxes"]),), 0.9)} for _, target in shapes()
        ]

    def forward(self, images, targets=None):
        if self.training:
            return {"one": self.weight * len(images), "two": self.weight * len(targets)}
        return self.found


@every_kind
def test_the_loss_is_the_sum_of_the_models_own_and_one_seed_fixes_it(kind) -> None:
    model, task = small(kind).train(), make_task("detection")
    images, targets = batch()
    with seeded(3):
        loss = task.loss(model, (images, targets))
    with seeded(3):
        expected = sum(copy.deepcopy(model)(list(images), list(targets)).values())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    with seeded(3):
        assert task.loss(model, (images, targets)).item() == pytest.approx(loss.item(), rel=1e-4)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@every_kind
def test_a_network_in_eval_mode_gives_a_loss_and_keeps_its_norms(kind) -> None:
    model = small(kind)
    before = {name: value.clone() for name, value in model.named_buffers()}
    Detection().loss(model, batch()).backward()
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


@pytest.mark.parametrize(("kind", "part"), [("maskrcnn", "masks"), ("keypointrcnn", "keypoints")])
def test_masks_and_keypoints_count_in_the_loss(kind, part) -> None:
    model, (images, targets) = small(kind).train(), batch()
    for target in targets:
        count = len(target["boxes"])
        target["masks"] = torch.ones(count, 64, 64, dtype=torch.uint8)
        centre = (target["boxes"][:, :2] + target["boxes"][:, 2:]) / 2
        target["keypoints"] = torch.cat([centre, torch.ones(count, 1)], 1)[:, None].repeat(1, 17, 1)
    with seeded(0):
        Detection().loss(model, (images, targets)).backward()
    head = getattr(model.roi_heads, f"{part.removesuffix('s')}_head")
    assert next(head.parameters()).grad.abs().sum() > 0
    for target in targets:
        del target[part]
    with pytest.raises((DataError, ValueError), match=f"lack '{part}'|should have a {part} key"):
        Detection().loss(model, (images, targets))


def test_true_boxes_that_are_found_score_one() -> None:
    task, model = Detection(classes=3), Own().eval()
    sums = task.measure(model, batch())
    assert task.score(sums) == 1.0
    model.found = [{k: v[:0] for k, v in each.items()} for each in model.found]
    both = sums + task.measure(model, batch())
    assert task.score(both) == pytest.approx(51 / 101), "recall of a half at the precision 1"
    assert task.score(both - sums) == 0.0


def test_crowds_are_left_out_and_a_class_has_a_hundred_detections_at_most() -> None:
    task, model = Detection(classes=3), Own().eval()
    images, targets = batch()
    for target, found in zip(targets, model.found, strict=True):
        target["iscrowd"] = torch.zeros(len(target["boxes"]), dtype=torch.int64)
        for name, value in found.items():
            found[name] = torch.cat([value, value[:1].repeat_interleave(200, 0)])
        found["scores"][len(target["boxes"]) :] = 0.1
    sums = task.measure(model, (images, targets))
    assert task.score(sums) == 1.0, "surplus ones behind all hits"
    counted = sums.view(3, -1)[:, 1:].view(3, -1, 11)[:, :, 0].sum()
    assert counted == sum(
        100 if label == target["labels"][0] else 1
        for target in targets
        for label in target["labels"].unique()
    )
    targets[0]["iscrowd"][:] = 1
    crowded = task.measure(model, (images, targets)).view(3, -1)[:, 0].sum()
    assert crowded == sums.view(3, -1)[:, 0].sum() - len(targets[0]["boxes"])


def test_heads_for_masks_and_keypoints_are_not_compared() -> None:
    heads = {
        "fasterrcnn": [],
        "maskrcnn": ["roi_heads.mask_head", "roi_heads.mask_predictor"],
        "keypointrcnn": ["roi_heads.keypoint_head", "roi_heads.keypoint_predictor"],
    }
    for kind, expected in heads.items():
        assert Detection().uncompared(small(kind)) == expected
    inside = nn.Sequential(small("maskrcnn"))
    assert Detection().uncompared(inside) == [f"0.{name}" for name in heads["maskrcnn"]]


def shaken(model: nn.Module, kind: str, what: str) -> nn.Module:
    """Return a copy with shifted biases of the classes, or with shaken boxes."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
    names = {
        "classes": ("cls_logits", "cls_score", "classification_head.module_list"),
        "boxes": ("bbox_reg", "bbox_pred", "regression_head.module_list"),
    }[what]
    found = [
        parameter
        for name, parameter in other.named_parameters()
        if name.endswith("bias") and any(f"{n}." in name for n in names) and "rpn" not in name
    ]
    assert found, kind
    with torch.no_grad():
        for bias in found:
            bias += 2 * torch.randn(bias.shape, generator=generator)
    return other


@pytest.mark.parametrize("what", ["classes", "boxes"])
@every_kind
def test_another_network_agrees_less_and_the_original_fully(kind, what) -> None:
    model, task = small(kind), Detection()
    agreement = Agreement(task, copy.deepcopy(model))
    with torch.no_grad():
        same = agreement.score(agreement.measure(model, batch()))
        apart = agreement.score(agreement.measure(shaken(model, kind, what), batch()))
    assert same == 0
    assert apart < -0.05
    assert agreement.can_compare(model, batch())


@every_kind
def test_draws_say_what_a_small_change_costs(kind) -> None:
    model, task = small(kind), Detection()
    images = model.transform(list(batch(2)[0]))[0].tensors
    with torch.no_grad():
        z = task.compared_network(model)(images)
    generator = torch.Generator().manual_seed(0)
    change = 0.01 * torch.randn(z.shape, generator=generator)
    drawn = [
        0.5 * (task.fisher_draw(z, generator) * change).sum(dim=(1, 2)).square().mean()
        for _ in range(1500)
    ]
    expected = task.divergence((z + change).double(), z.double())
    assert float(torch.stack(drawn).mean()) == pytest.approx(float(expected), rel=0.12)


@pytest.mark.parametrize("weight", [0.5, 1.0])
@every_kind
def test_a_network_in_training_follows_its_teacher(kind, weight) -> None:
    """With a weight of 1, batches need no labels."""
    task, model = Detection(), small(kind)
    guided = WithTeacher(task, copy.deepcopy(model), weight=weight)
    network = copy.deepcopy(model).train()
    for module in network.modules():  # as in the teacher
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    given = batch() if weight < 1 else (batch()[0],)
    with seeded(0):
        loss = guided.loss(network, given)
        if weight == 1:
            assert loss.item() == 0
    network = shaken(network, kind, "classes")
    with seeded(0):
        more = guided.loss(network, given)
    more.backward()
    assert more.item() > loss.item() + 1e-3
    assert network.backbone.first[0][0].weight.grad.abs().sum() > 0


@every_kind
def test_a_run_needs_no_labels(kind) -> None:
    model, calls = small(kind), []
    hook = model.backbone.register_forward_hook(lambda *_: calls.append(1))
    for given in (batch(), (batch()[0],), list(batch()[0])):
        Detection().run(model, given)
        Detection().run(model.train(), given)
        model.eval()
    hook.remove()
    assert len(calls) == 6


def test_several_processes_do_not_train_it_without_labels(monkeypatch) -> None:
    """The gradients of a pass that no wrapper sees would stay apart."""

    class Wrapper(nn.Sequential):
        pass

    monkeypatch.setattr("refiner.training.detection_task.DistributedDataParallel", Wrapper)
    with pytest.raises(ConfigError, match="several processes cannot train a detector without"):
        Detection().run(Wrapper(small("ssd")).train(), batch())


def test_boxes_are_computed_in_float32_under_autocast() -> None:
    model, dtypes = small("retinanet"), set()
    hook = model.head.register_forward_hook(lambda _m, _a, out: dtypes.add(out["cls_logits"].dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        Detection().measure(model, batch())
        Detection().run(model, batch())
    hook.remove()
    assert dtypes == {torch.float32}


def test_a_detector_of_another_class_trains_and_scores_without_a_teacher() -> None:
    model = Own()
    assert Detection().loss(model.train(), batch()).item() == 8
    with pytest.raises(ConfigError, match=r"classes of Own cannot be found.*classes=N"):
        Detection().measure(model.eval(), batch())
    assert not Agreement(Detection(3), copy.deepcopy(model)).can_compare(model, batch())
    model.forward = lambda *_: torch.zeros(3)
    with pytest.raises(ConfigError, match="gives a Tensor and no losses"):
        Detection().loss(model, batch())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": None}, "a target holds boxes, labels"),
        ({"boxes": torch.zeros(4)}, r"a target has boxes \(4,\)"),
        ({"labels": torch.zeros(9).long()}, r"labels \(9,\).* 0 x 4 and 0"),
        ({"boxes": torch.tensor([[5.0, 5.0, 5.0, 9.0]]), "labels": torch.ones(1)}, "no area"),
        (
            {"labels": torch.tensor([3])},
            "labels from 3 to 3, and the model's run from 1 to 2, sinc",
        ),
        ({"labels": torch.tensor([0])}, "0 is the background"),
    ],
)
def test_targets_that_do_not_fit_are_refused(change, message) -> None:
    images, targets = batch()
    targets[0]["boxes"], targets[0]["labels"] = targets[0]["boxes"][:1], targets[0]["labels"][:1]
    targets[0].update(change)
    for step in (Detection().loss, Detection().measure):
        with pytest.raises(DataError, match=message):
            step(small("fasterrcnn"), (images, targets))


def test_batches_of_other_forms_are_refused() -> None:
    with pytest.raises(DataError, match="no pair of images and targets"):
        Detection().loss(small("ssd"), (torch.rand(2, 3, 8, 8), torch.zeros(2)))
    with pytest.raises(DataError, match="holds no images"):
        Detection().run(small("ssd"), (torch.zeros(2), torch.zeros(2)))


def test_one_seed_fixes_a_training_to_the_bit() -> None:
    """An R-CNN draws the anchors and proposals of its loss."""
    model, devices = small("fasterrcnn"), Devices.choose("cpu")
    loader = DataLoader(shapes(8), 4, shuffle=True, collate_fn=collate)
    trained, results = [], []
    for seed in (1, 1, 2):
        network, teacher = copy.deepcopy(model), copy.deepcopy(model)
        task = WithTeacher(Detection(), teacher, weight=0.5)
        config = TrainConfig.fine_tuning(epochs=1)
        results.append(
            train(network, loader, loader, task, devices=devices, config=config, seed=seed)
        )
        trained.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert results[0].losses == results[1].losses != results[2].losses
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])
