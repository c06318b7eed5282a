"""Programs of torch.export, in files (.pt2) or at hand: modules that have their graph with them."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule


def load_program(path: Path) -> ExportedProgram:
    """Read a file of ``torch.export.save``; ValueError for one that is missing, damaged or of another PyTorch."""
    if not path.is_file():
        raise ValueError(f"no program at {path}; give the path of a file of torch.export.save (.pt2)")
    logs = logging.getLogger("torch")
    level = logs.level
    logs.setLevel(logging.CRITICAL)  # what it logs of a failure, its error says again
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except Exception as error:  # whatever the bytes made it stumble over
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} is no whole program that PyTorch {torch.__version__} can read ({reason}); export the module again "
            "with this version and torch.export.save it"
        ) from None
    finally:
        logs.setLevel(level)


def module_of(program: ExportedProgram, size: tuple[int, int] | None = None) -> tuple[GraphModule, Tensor]:
    """A program as a module in evaluation mode, and a picture (1, 3, H, W) as it takes it.

    Parameters
    ----------
    program:
        It takes one picture, or any number of them.
    size:
        Height and width of the picture, where the program takes several; None for those that it was exported with.

    Raises
    ------
    ValueError
        If it takes something else than one picture, or pictures of another size.
    """
    signature = program.graph_signature
    found = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    inputs = [found.get(str(name)) for name in signature.user_inputs]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].ndim != 4:
        raise ValueError(f"the program takes {len(inputs)} inputs; expected one: pictures (B, 3, H, W)")
    batch, colours, *edges = inputs[0].shape
    fixed = [edge for edge in edges if isinstance(edge, int)]
    if (isinstance(batch, int) and batch != 1) or colours != 3:
        raise ValueError(
            f"the program takes {tuple(inputs[0].shape)}; export it with one picture, (1, 3, height, width)"
        )
    if len(fixed) == 2 and size not in (None, tuple(fixed)):
        raise ValueError(f"the program takes pictures of {fixed[0]}x{fixed[1]}; leave the size out, or export it again")
    if size is None:
        exported = program.example_inputs
        shape = exported[0][0].shape if exported else inputs[0].shape
        size = (int(shape[2]), int(shape[3]))
    module = program.module()
    assert isinstance(module, GraphModule)
    module.training = False  # it has no eval(): what differs in training is written in its graph
    return module, torch.zeros(1, 3, *size, dtype=inputs[0].dtype)
