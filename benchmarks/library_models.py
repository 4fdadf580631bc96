"""Models of other libraries, built from their configurations with random weights.

Nothing is downloaded. Each function returns a small input of two samples with its model. Models are
those that the libraries offer by default, or smaller ones of the same class.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn

Built: TypeAlias = tuple[nn.Module, Any]
"""A model and an example input."""


def image(side: int = 64, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, side, side)


def ultralytics(file: str, task: str = "Detection") -> Built:
    from ultralytics.nn import tasks

    if task == "Classification":
        return tasks.ClassificationModel(file, verbose=False), image(128)
    return getattr(tasks, f"{task}Model")(file, verbose=False), image(128)


def hugging_face(name: str, example: Any = None, **options: Any) -> Built:
    """Return a model of transformers; options are those of its configuration."""
    import transformers

    model_class = getattr(transformers, name)
    model = model_class(model_class.config_class(**options))
    return model, image() if example is None else example


def upernet() -> Built:
    from transformers import ConvNextConfig

    backbone = ConvNextConfig(
        depths=[2, 2, 2, 2],
        hidden_sizes=[48, 96, 192, 384],
        out_features=[f"stage{i}" for i in (1, 2, 3, 4)],
    )
    options = {"backbone_config": backbone, "hidden_size": 64, "auxiliary_in_channels": 192}
    return hugging_face("UperNetForSemanticSegmentation", **options)


def wav2vec2() -> Built:
    small = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    convs = {"conv_dim": (64,) * 7, "num_conv_pos_embeddings": 32, "intermediate_size": 128}
    options = {**small, **convs, "num_conv_pos_embedding_groups": 4}
    return hugging_face("Wav2Vec2Model", torch.randn(2, 4000), **options)


def whisper() -> Built:
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 128}
    wide = {"d_model": 64, "decoder_ffn_dim": 128, "max_source_positions": 50, "vocab_size": 100}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    sound = {
        "input_features": torch.randn(2, 80, 100),
        "decoder_input_ids": torch.ones(2, 4, dtype=torch.long),
        "use_cache": False,
    }
    return hugging_face("WhisperModel", sound, **heads, **sizes, **wide, **ends)


def segmentation(decoder: str, encoder: str) -> Built:
    import segmentation_models_pytorch as smp

    return getattr(smp, decoder)(encoder, encoder_weights=None, classes=3), image()


def monai(name: str, side: int = 32, **options: Any) -> Built:
    from monai.networks import nets

    return getattr(nets, name)(**options), torch.randn(2, 1, side, side, side)


def torchaudio(name: str, example: torch.Tensor, **options: Any) -> Built:
    from torchaudio import models

    return getattr(models, name)(**options), example


def diffusers(name: str, *further: Any, side: int = 32, **options: Any) -> Built:
    import diffusers as library

    return getattr(library, name)(**options), (image(side), *further)


def effdet() -> Built:
    from effdet import create_model_from_config, get_efficientdet_config

    config = get_efficientdet_config("tf_efficientdet_d0")
    config.image_size = (128, 128)
    return create_model_from_config(config, pretrained=False, pretrained_backbone=False), image(128)


def lightning(name: str) -> Built:
    from lightning import LightningModule
    from torchvision import models

    class Wrapped(LightningModule):
        """A network as an attribute, and a log of its output, as in many projects."""

        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"lr": 0.1})
            self.network = models.get_model(name)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x)

    return Wrapped(), image()


_UP_3D = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
_U_NET = {**_UP_3D, "channels": (16, 32, 64, 128), "strides": (2, 2, 2)}
_DYN_UNET = {**_UP_3D, "strides": [1, 2, 2, 2], "upsample_kernel_size": [2, 2, 2]}
_BLOCKS = {"block_out_channels": (32, 64), "norm_num_groups": 8}
_DOWN = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
_DIFFUSION = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
_EFFICIENT_NET = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}
_HDEMUCS = {"sources": ["a", "b"], "audio_channels": 1, "channels": 16, "nfft": 1024, "depth": 5}

LIBRARY_MODELS: dict[str, Callable[[], Built]] = {
    "ultralytics:yolov8n": partial(ultralytics, "yolov8n.yaml"),
    "ultralytics:yolo11n": partial(ultralytics, "yolo11n.yaml"),
    "ultralytics:yolo11n-cls": partial(ultralytics, "yolo11n-cls.yaml", "Classification"),
    "ultralytics:yolo11n-seg": partial(ultralytics, "yolo11n-seg.yaml", "Segmentation"),
    "ultralytics:yolo11n-pose": partial(ultralytics, "yolo11n-pose.yaml", "Pose"),
    "transformers:ResNet": partial(hugging_face, "ResNetForImageClassification"),
    "transformers:MobileNetV1": partial(hugging_face, "MobileNetV1ForImageClassification"),
    "transformers:MobileNetV2": partial(hugging_face, "MobileNetV2ForImageClassification"),
    "transformers:ConvNext": partial(hugging_face, "ConvNextForImageClassification"),
    "transformers:ConvNextV2": partial(hugging_face, "ConvNextV2ForImageClassification"),
    "transformers:RegNet": partial(hugging_face, "RegNetForImageClassification"),
    "transformers:EfficientNet": partial(
        hugging_face, "EfficientNetForImageClassification", **_EFFICIENT_NET
    ),
    "transformers:SegFormer": partial(hugging_face, "SegformerForSemanticSegmentation"),
    "transformers:UperNet": upernet,
    "transformers:BiT": partial(hugging_face, "BitForImageClassification"),
    "transformers:LeViT": partial(hugging_face, "LevitForImageClassification", image(224)),
    "transformers:CvT": partial(hugging_face, "CvtForImageClassification"),
    "transformers:PoolFormer": partial(hugging_face, "PoolFormerForImageClassification"),
    "transformers:MobileViT": partial(hugging_face, "MobileViTForImageClassification"),
    "transformers:Wav2Vec2": wav2vec2,
    "transformers:Whisper": whisper,
    "transformers:EnCodec": partial(hugging_face, "EncodecModel", torch.randn(2, 1, 4000)),
    **{
        f"smp:{decoder}-{encoder}": partial(segmentation, decoder, encoder)
        for decoder in ("Unet", "DeepLabV3Plus", "FPN", "MAnet")
        for encoder in ("resnet18", "efficientnet-b0", "mobilenet_v2")
    },
    "monai:UNet": partial(monai, "UNet", **_U_NET, num_res_units=2),
    "monai:DynUNet": partial(monai, "DynUNet", **_DYN_UNET, kernel_size=[3] * 4),
    "monai:SegResNet": partial(monai, "SegResNet", init_filters=16, in_channels=1, out_channels=2),
    "monai:BasicUNet": partial(monai, "BasicUNet", features=(16, 16, 32, 64, 128, 16)),
    "monai:DenseNet121": partial(monai, "DenseNet121", **_UP_3D),
    "monai:AttentionUnet": partial(monai, "AttentionUnet", **_U_NET),
    "monai:VNet": partial(monai, "VNet"),
    "torchaudio:Wav2Letter": partial(torchaudio, "Wav2Letter", torch.randn(2, 1, 4000)),
    "torchaudio:ConvTasNet": partial(torchaudio, "ConvTasNet", torch.randn(2, 1, 4000)),
    "torchaudio:HDemucs": partial(torchaudio, "HDemucs", torch.randn(2, 1, 8192), **_HDEMUCS),
    "diffusers:UNet2DModel": partial(
        diffusers, "UNet2DModel", 3, **_DIFFUSION, **_BLOCKS, sample_size=32
    ),
    "diffusers:AutoencoderKL": partial(diffusers, "AutoencoderKL", **_DOWN, **_BLOCKS),
    "diffusers:VQModel": partial(diffusers, "VQModel", **_DOWN, **_BLOCKS),
    "effdet:tf_efficientdet_d0": effdet,
    "lightning:resnet18": partial(lightning, "resnet18"),
    "lightning:mobilenet_v3_small": partial(lightning, "mobilenet_v3_small"),
}
