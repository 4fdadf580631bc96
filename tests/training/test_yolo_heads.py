import pytest
from torch import nn
from yolo_shapes import tiny_model

from refiner.core.errors import ConfigError
from refiner.core.models import ModelSpec
from refiner.training.yolo_boxes import BoxMaps
from refiner.training.yolo_heads import maps_of
from refiner.training.yolo_masks import MaskMaps

tasks = pytest.importorskip("ultralytics.nn.tasks")


@pytest.mark.parametrize(
    ("head", "kind"), [("one", BoxMaps), ("yolov10", BoxMaps), ("yolo26-seg", MaskMaps)]
)
def test_the_last_layer_says_what_is_compared(tmp_path, head, kind) -> None:
    model = ModelSpec(source="ultralytics:" + tiny_model(tmp_path, head)).build()
    assert type(maps_of(model)) is kind


def test_other_networks_are_refused() -> None:
    with pytest.raises(ConfigError, match="which may segment, and the model is a Linear"):
        maps_of(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="the model is a OBBModel"):
        maps_of(tasks.OBBModel("yolo11n-obb.yaml", verbose=False))


def test_a_fused_network_is_refused(tmp_path) -> None:
    network = ModelSpec(source="ultralytics:" + tiny_model(tmp_path, "yolo26")).build()
    network.end2end = True
    network.model[-1].fuse()
    with pytest.raises(ConfigError, match="is fused, so it lacks a head that training needs"):
        maps_of(network)
