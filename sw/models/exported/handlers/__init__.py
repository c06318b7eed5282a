"""Operators of PyTorch that compute, as operators of ours: a module for each kind."""

from tessera.sw.models.exported.handlers import attention, experts, functions, kept, products, sums, tensors
from tessera.sw.models.exported.handlers.registry import CHECKS, HANDLERS
from tessera.sw.models.exported.handlers.sums import scaled_channels

__all__ = [
    "CHECKS",
    "HANDLERS",
    "attention",
    "experts",
    "functions",
    "kept",
    "products",
    "scaled_channels",
    "sums",
    "tensors",
]
