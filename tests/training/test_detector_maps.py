import copy

import pytest
import torch
from small_detectors import KINDS, SIZE, batch, small

from refiner.training.detector_maps import SIDES, RawMaps, grid_boxes


def maps_of(model, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return RawMaps(model)(images)


def prepared(model) -> torch.Tensor:
    return model.transform(list(batch()[0]))[0].tensors


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_see_in_a_forward_pass_what_a_call_gives(kind) -> None:
    model, seen = small(kind), []
    maps = RawMaps(model)
    handles = [
        maps.register_forward_pre_hook(lambda _m, args, _k: seen.append(args[0]), with_kwargs=True),
        maps.register_forward_hook(lambda _m, _a, output: seen.append(output)),
    ]
    with torch.no_grad():
        model(list(batch()[0]))
    for handle in handles:
        handle.remove()
    images, output = seen
    assert torch.equal(output, maps_of(model, images))
    assert len(seen) == 2, "no hook is left"


@pytest.mark.parametrize("kind", ["retinanet", "fcos", "ssd"])
def test_log_odds_are_those_of_the_scores_that_a_detector_gives(kind) -> None:
    """With no threshold and no box suppressed, the scores are all those of the maps."""
    model = small(kind)
    model.score_thresh, model.nms_thresh = 0.0, 1.1
    model.detections_per_img = model.topk_candidates = 10**6
    maps = maps_of(model, prepared(model))
    with torch.no_grad():
        found = model(list(batch()[0]))
    for image, each in zip(maps, found, strict=True):
        scores = image[SIDES:].sigmoid().flatten().sort().values
        assert len(scores) == len(each["scores"])
        torch.testing.assert_close(each["scores"].sort().values, scores, atol=1e-5, rtol=1e-4)


def test_both_stages_of_an_rcnn_are_in_its_maps() -> None:
    model = small("fasterrcnn")
    images = prepared(model)
    maps, grid = maps_of(model, images), len(grid_boxes(SIZE, SIZE))
    assert maps.shape == (4, SIDES + 1, 160 + 2 * grid)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.roi_heads.box_predictor.cls_score.bias[2] += 1
    changed = (maps_of(other, images) != maps).any(dim=0)
    assert not changed[:, :160].any()
    assert changed[SIDES, 160:].all()
    assert not changed[:SIDES].any()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.rpn.head.cls_logits.bias += 1
    changed = (maps_of(other, images) != maps).any(dim=0)
    assert changed[SIDES, :160].all()
    assert not changed[:, 160:].any()


def test_anchors_of_the_first_stage_are_in_the_order_of_torchvision() -> None:
    from torchvision.models.detection.rpn import concat_box_prediction_layers

    model = small("fasterrcnn")
    images = prepared(model)
    with torch.no_grad():
        odds, boxes = concat_box_prediction_layers(
            *model.rpn.head(list(model.backbone(images).values()))
        )
    first = maps_of(model, images)[:, :, :160].transpose(1, 2).flatten(0, 1)
    assert torch.equal(first, torch.cat([boxes, odds], dim=1))


def test_the_grid_covers_an_image() -> None:
    boxes = grid_boxes(80, 40)
    assert len(boxes) == 9 + 49 + 225
    assert boxes[0].tolist() == [0, 0, 20, 40]
    assert boxes[-1].tolist() == [35, 70, 40, 80]
    assert bool((boxes[:, 2:] > boxes[:, :2]).all())


def test_the_grid_leaves_the_statistics_of_a_box_head_alone() -> None:
    model = small("fasterrcnn")
    head = model.roi_heads.box_head
    width = model.roi_heads.box_predictor.cls_score.in_features
    model.roi_heads.box_head = torch.nn.Sequential(head, torch.nn.BatchNorm1d(width)).train()
    before = {
        name: value.clone() for name, value in model.roi_heads.box_head[1].state_dict().items()
    }
    norm = model.roi_heads.box_head[1]
    maps = RawMaps(model)(prepared(model))
    maps.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert norm.momentum == 0.1
