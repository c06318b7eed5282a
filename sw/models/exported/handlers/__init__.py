"""Operators of PyTorch that compute, as operators of ours: a module for each kind."""

from tessera.sw.models.exported.handlers import attention, experts, functions, products, sums, tensors
from tessera.sw.models.exported.handlers.registry import HANDLERS
from tessera.sw.models.exported.handlers.sums import scaled_channels

__all__ = ["HANDLERS", "attention", "experts", "functions", "products", "scaled_channels", "sums", "tensors"]
