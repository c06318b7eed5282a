"""A module's graph by torch.export, and what must hold before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from tessera.sw.models.exported.lines import own_line

_FLOATS = "the module is read in float32: call float() on it"


class ExportError(ValueError):
    """torch.export cannot trace a module; the message has its reason, and the file and line."""


def exported_program(module: nn.Module, example: Tensor, name: str) -> ExportedProgram:
    """Trace a module in evaluation mode.

    Raises
    ------
    ValueError
        The example is no picture, or the module has weights that are no numbers or is in training mode.
    ExportError
        torch.export or the module's own code fails.
    """
    _check_example(example)
    _check_weights(module)
    if module.training:
        raise ValueError(f"'{name}' is in training mode; put it into evaluation mode with eval()")
    logs = logging.getLogger("torch")
    level = logs.level
    logs.setLevel(logging.CRITICAL)  # what it logs of a failure, its error says again
    try:
        with own_forward(f"'{name}' cannot be exported"):
            program = torch.export.export(module, (example,), strict=False)
    finally:
        logs.setLevel(level)
    for key, values in program.constants.items():
        if isinstance(values, Tensor) and values.is_floating_point() and values.isnan().any():
            raise ValueError(f"'{key}' has values that are not finite; the module cannot be quantised")
    return program


@contextmanager
def own_forward(what: str) -> Iterator[None]:
    """Whatever a module's own code raises is one ExportError with its file and line."""
    try:
        yield
    except SystemExit as error:
        raise ExportError(f"{what}: its code ends the program, sys.exit({error.code!r}), {own_line(error)}") from None
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise ExportError(f"{what}: {lines[0] if lines else type(error).__name__}, {own_line(error)}") from error


def _check_example(example: Tensor) -> None:
    """ValueError for an example that is no picture."""
    if example.ndim != 4 or example.shape[:2] != (1, 3) or example.dtype != torch.float32:
        raise ValueError(
            f"the example is {str(example.dtype).removeprefix('torch.')} {tuple(example.shape)}; expected one picture, "
            "float32 (1, 3, height, width)"
        )


def _check_weights(module: nn.Module) -> None:
    """ValueError for weights that are no float32 numbers at hand; masks of a buffer may have minus infinity."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, values in module.state_dict().items():
        if nn.parameter.is_lazy(values):
            raise ValueError(f"'{name}' has no shape yet; call the module once with a picture before")
        if values.device.type == "meta":
            raise ValueError(f"'{name}' is on the device meta, where tensors have no values; make the module on cpu")
        if values.device.type != "cpu":
            raise ValueError(f"'{name}' is on the device {values.device}; call cpu() on the module")
        if not values.is_floating_point():
            continue
        if values.dtype != torch.float32:
            raise ValueError(f"'{name}' is {str(values.dtype).removeprefix('torch.')}; {_FLOATS}")
        finite = values.isfinite() if name in parameters else values.isfinite() | values.isneginf()
        if not finite.all():
            raise ValueError(f"'{name}' has values that are not finite; the module cannot be quantised")
