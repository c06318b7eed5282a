"""Models of timm, the reference of its importer, without torchvision.

timm imports torchvision for data augmentation and for classes of layers that vision transformers do not have. Where
PyTorch is a build for CPUs alone, the torchvision that goes with it may not load; so names imported from it are empty
classes here, and timm is installed without its dependencies (see Makefile).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class _AnyMember(type):
    """A class any attribute of which is an equal, hashable name."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module of torchvision, and makes it of empty classes."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)

        def member(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return _AnyMember(name, (), {})

        module.__getattr__ = member  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


@contextmanager
def _without_torchvision() -> Iterator[None]:
    finder = _StandIn()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


with _without_torchvision():
    from timm.layers import resample_abs_pos_embed
    from timm.models import create_model
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.vision_transformer import VisionTransformer

__all__ = ["SwinTransformer", "VisionTransformer", "create_model", "randomised", "resample_abs_pos_embed"]


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with every parameter random, those that timm begins at 0 or 1 too, at scales of trained ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.ndim > 1 and "embed" not in name.split(".")[-1] else 25
            parameter.copy_(noise / fan_in**0.5 + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
    return model.eval()


def settled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with what training would have moved from 0 and 1: statistics of batches, gains, offsets and scales.

    Matrices stay as timm draws them, so that values keep their size through any network.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for name, values in model.state_dict().items():
            if name.endswith("running_var"):
                values.copy_(1 + 0.2 * noise(values).clamp(-2, 2))
            elif values.is_floating_point() and values.ndim == 1:
                around = 1.0 if float(values.abs().min()) == float(values.abs().max()) == 1.0 else 0.0
                values.copy_(around + 0.1 * noise(values))
            elif values.is_floating_point() and float(values.abs().max()) == 0.0:
                values.copy_(0.05 * noise(values))
    return model.eval()
