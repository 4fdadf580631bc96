"""Small detectors of torchvision, and batches of shapes for them."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign
from torchvision.utils import save_image

SIZE = 64
"""Height and width of an image."""
KINDS = ("retinanet", "fcos", "ssd", "fasterrcnn")
_CHANNELS = 32


class Backbone(nn.Module):
    """Maps of strides 8 and 16, with convs that may become slots."""

    out_channels = _CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.stem = _block(3, 8)
        self.first = nn.Sequential(_block(8, 48), _block(48, 48, 1), _block(48, _CHANNELS))
        self.second = nn.Sequential(_block(_CHANNELS, 24), _block(24, _CHANNELS, 1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        first = self.first(self.stem(x))
        return OrderedDict([("0", first), ("1", self.second(first))])


def _block(inner: int, outer: int, stride: int = 2) -> nn.Sequential:
    conv = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), nn.ReLU())


def small(kind: str, classes: int = 3, size: int = SIZE) -> Any:
    """Return a detector with new weights, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _made(kind, classes, size).eval()


def _made(kind: str, classes: int, size: int) -> nn.Module:
    backbone, sized = Backbone(), {"min_size": size, "max_size": size}
    anchors = AnchorGenerator(((12, 20), (28, 40)), ((1.0,),) * 2)
    if kind == "retinanet":
        head = RetinaNetHead(_CHANNELS, 2, classes)
        return RetinaNet(backbone, classes, anchor_generator=anchors, head=head, **sized)
    if kind == "fcos":
        points = AnchorGenerator(((8,), (16,)), ((1.0,),) * 2)
        head = FCOSHead(_CHANNELS, 1, classes, num_convs=1)
        return FCOS(backbone, classes, anchor_generator=points, head=head, **sized)
    if kind == "ssd":
        boxes = DefaultBoxGenerator([[2], [2]], scales=[0.2, 0.45, 0.8], steps=[8, 16])
        backbone.out_channels = [_CHANNELS] * 2
        return SSD(backbone, boxes, (size, size), classes)
    made = {"fasterrcnn": FasterRCNN, "maskrcnn": MaskRCNN, "keypointrcnn": KeypointRCNN}[kind]
    pooled = {
        f"{part}_roi_pool": MultiScaleRoIAlign(["0", "1"], side, 2)
        for part, side in (("box", 3), ("mask", 6), ("keypoint", 6))
        if part == "box" or kind.startswith(part)
    }
    return made(
        backbone, None, rpn_anchor_generator=anchors, rpn_post_nms_top_n_test=50,
        rpn_post_nms_top_n_train=50, box_detections_per_img=20, **pooled, **_heads(kind, classes),
        **sized,
    )  # fmt: skip


def _heads(kind: str, classes: int) -> dict[str, nn.Module]:
    heads: dict[str, nn.Module] = {
        "box_head": TwoMLPHead(9 * _CHANNELS, 32),
        "box_predictor": FastRCNNPredictor(32, classes),
    }
    if kind == "maskrcnn":
        heads["mask_head"] = MaskRCNNHeads(_CHANNELS, (8, 8), 1)
        heads["mask_predictor"] = MaskRCNNPredictor(8, 8, classes)
    if kind == "keypointrcnn":
        heads["keypoint_head"] = KeypointRCNNHeads(_CHANNELS, (8, 8))
        heads["keypoint_predictor"] = KeypointRCNNPredictor(8, 17)
    return heads


def shapes(count: int = 4, seed: int = 0, size: int = SIZE) -> list[tuple[torch.Tensor, dict]]:
    """Return images of 3 x size x size with one or two bright boxes, wide (1) or high (2)."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for _ in range(count):
        image = 0.3 * torch.rand(3, size, size, generator=generator)
        boxes, labels = [], []
        for _ in range(int(torch.randint(1, 3, (1,), generator=generator))):
            label = int(torch.randint(1, 3, (1,), generator=generator))
            long = int(torch.randint(size // 3, size // 2, (1,), generator=generator))
            width, height = (long, long // 2) if label == 1 else (long // 2, long)
            x = int(torch.randint(0, size - width, (1,), generator=generator))
            y = int(torch.randint(0, size - height, (1,), generator=generator))
            image[:, y : y + height, x : x + width] += 0.6
            boxes.append([x, y, x + width, y + height])
            labels.append(label)
        target = {"boxes": torch.tensor(boxes).float(), "labels": torch.tensor(labels)}
        items.append((image.clamp(max=1.0), target))
    return items


def collate(items: list[tuple[torch.Tensor, dict]]) -> tuple[tuple, tuple]:
    """Return a batch as torchvision's references make it."""
    return tuple(zip(*items, strict=True))


def batch(count: int = 4, seed: int = 0) -> tuple[tuple, tuple]:
    """Return a batch of shapes."""
    return collate(shapes(count, seed))


def write_coco(folder: Path, items: list[tuple[torch.Tensor, dict]]) -> None:
    """Write images and their boxes in COCO's format."""
    folder.mkdir(parents=True)
    annotations = []
    for i, (image, target) in enumerate(items):
        save_image(image, folder / f"{i}.png")
        for (x1, y1, x2, y2), label in zip(
            target["boxes"].tolist(), target["labels"].tolist(), strict=True
        ):
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append({"image_id": i, "bbox": box, "category_id": label})
    document = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(len(items))],
        "categories": [{"id": 1, "name": "wide"}, {"id": 2, "name": "high"}],
        "annotations": annotations,
    }
    (folder / "_annotations.coco.json").write_text(json.dumps(document))
