"""The forty backbones: one or two of every family of vision transformers that timm has at 224 x 224 or near."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tests.helpers import timm_models

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pictures, by which timm's models are fed."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A model of timm.

    Parameters
    ----------
    name:
        As ``timm.create_model`` knows it.
    family:
        What its paper calls it.
    size:
        Edge of its picture.
    arguments:
        More of what ``timm.create_model`` takes.
    """

    name: str
    family: str
    size: int = 224
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def example(self) -> torch.Tensor:
        """A picture as the model takes it."""
        return torch.zeros(1, 3, self.size, self.size)

    def make(self) -> nn.Module:
        """The model with random weights, the same every time."""
        import timm

        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = timm.create_model(self.name, pretrained=False, **self.arguments)
        return timm_models.settled(model)


def _dino(name: str) -> Backbone:
    return Backbone(name=name, family="DINOv2", arguments={"img_size": 224})


BACKBONES = (
    Backbone(name="vit_tiny_patch16_224", family="ViT"),
    Backbone(name="vit_small_patch16_224", family="ViT"),
    Backbone(name="vit_small_patch32_224", family="ViT"),
    Backbone(name="vit_base_patch32_224", family="ViT"),
    Backbone(name="vit_base_patch16_224", family="ViT"),
    Backbone(name="vit_relpos_small_patch16_224", family="ViT, relative positions"),
    Backbone(name="vit_pwee_patch16_reg1_gap_256", family="ViT, parallel blocks", size=256),
    Backbone(name="deit_tiny_patch16_224", family="DeiT"),
    Backbone(name="deit_small_patch16_224", family="DeiT"),
    Backbone(name="deit_tiny_distilled_patch16_224", family="DeiT, distilled"),
    Backbone(name="deit_small_distilled_patch16_224", family="DeiT, distilled"),
    Backbone(name="deit3_small_patch16_224", family="DeiT-III"),
    _dino("vit_small_patch14_dinov2"),
    _dino("vit_small_patch14_reg4_dinov2"),
    Backbone(name="beit_base_patch16_224", family="BEiT"),
    Backbone(name="eva02_tiny_patch14_224", family="EVA-02"),
    Backbone(name="cait_xxs24_224", family="CaiT"),
    Backbone(name="xcit_tiny_12_p16_224", family="XCiT"),
    Backbone(name="convit_tiny", family="ConViT"),
    Backbone(name="crossvit_tiny_240", family="CrossViT", size=240),
    Backbone(name="tnt_s_patch16_224", family="TNT"),
    Backbone(name="mixer_s32_224", family="MLP-Mixer"),
    Backbone(name="mixer_b16_224", family="MLP-Mixer"),
    Backbone(name="resmlp_12_224", family="ResMLP"),
    Backbone(name="gmlp_ti16_224", family="gMLP"),
    Backbone(name="swin_tiny_patch4_window7_224", family="Swin"),
    Backbone(name="levit_128s", family="LeViT"),
    Backbone(name="levit_192", family="LeViT"),
    Backbone(name="efficientformer_l1", family="EfficientFormer"),
    Backbone(name="vitamin_small_224", family="ViTamin"),
    Backbone(name="pvt_v2_b0", family="PVTv2"),
    Backbone(name="pit_ti_224", family="PiT"),
    Backbone(name="visformer_tiny", family="Visformer"),
    Backbone(name="coat_tiny", family="CoaT"),
    Backbone(name="twins_svt_small", family="Twins"),
    Backbone(name="poolformer_s12", family="PoolFormer"),
    Backbone(name="nextvit_small", family="Next-ViT"),
    Backbone(name="mobilevit_s", family="MobileViT", size=256),
    Backbone(name="edgenext_xx_small", family="EdgeNeXt", size=256),
    Backbone(name="maxvit_tiny_rw_224", family="MaxViT"),
)
