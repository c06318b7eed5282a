"""Modules that a function of the user's makes: found by name, called, and every mistake in it told in one message."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from tessera.common.expected import described
from tessera.sw.models.exported.lines import own_line
from tessera.sw.models.exported.programs import module_of
from tessera.sw.models.options import check_task_names
from tessera.sw.models.weight_files import read_content

_SHAPES = "a torch.nn.Module, (module, example picture), or a dictionary of modules by the names of their tasks"


@dataclass(frozen=True, kw_only=True)
class Called:
    """What a function made.

    Parameters
    ----------
    module:
        In evaluation mode.
    example:
        The picture (1, 3, H, W) that it gave; None for none.
    """

    module: nn.Module
    example: Tensor | None


class _Tasks(nn.Module):
    """Modules of one picture, each the result of a task."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        check_task_names(tuple(modules))
        self.tasks = nn.ModuleDict(dict(modules))

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The result of each."""
        return {name: module(pixels) for name, module in self.tasks.items()}


def called(name: str, *, seed: int = 0) -> Called:
    """Call a function.

    Parameters
    ----------
    name:
        ``package.module:function``, in the current folder or among the installed packages.
    seed:
        Of the random numbers that it draws.

    Raises
    ------
    ValueError
        There is no such module or function, its own code fails, or it gives something else than a module. The message
        has the file and the line.
    """
    module, _, function = name.partition(":")
    if not module or not all(part.isidentifier() for part in (*module.split("."), *function.split("."))):
        raise ValueError(f"--module is '{name}'; give a module and a function in it, such as package.module:function")
    with _own_code(name):
        found = _function(_imported(module), function, module)
    if not isinstance(found, nn.Module):
        _check_callable(name, found)
        with _own_code(name):
            torch.manual_seed(seed)
            found = found()
    return _taken(name, found)


def load_weights(module: nn.Module, path: Path) -> None:
    """Give a module the weights of a file; ValueError lists names that it has not, or that the file has not."""
    if not path.is_file():
        raise ValueError(f"no weights at {path}; give the path of a file of torch.save or of safetensors")
    content = read_content(path)
    inner = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), dict)), content)
    tensors = {key: value for key, value in inner.items() if isinstance(value, Tensor)}
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reasons = " ".join(str(error).split())
        raise ValueError(f"{path} does not fit the module: {reasons}") from None


@contextmanager
def _own_code(name: str) -> Iterator[None]:
    """The current folder comes first where modules are looked for; whatever their code raises is one ValueError."""
    here, before = os.getcwd(), list(sys.path)
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    except _Mistake as error:
        raise ValueError(str(error)) from None
    except SystemExit as error:
        raise ValueError(f"{name}: its code ends the program, sys.exit({error.code!r}), {own_line(error)}") from None
    except Exception as error:
        text = " ".join(str(error).split())
        said = f"{type(error).__name__}{f': {text}' if text else ''}"
        raise ValueError(f"{name}: its code fails, {said}, {own_line(error)}") from None
    finally:
        sys.path[:] = before


class _Mistake(Exception):
    """There is nothing of the name; not an error of the code itself."""


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # one that its own code looks for
        raise _Mistake(
            f"no module '{error.name}', in {os.getcwd()} or among the installed packages; go to the folder that has it"
        ) from None


def _function(module: Any, path: str, name: str) -> Any:
    """An attribute of a module, or of a class in it."""
    found = module
    for part in path.split("."):
        if not hasattr(found, part):
            names = [one for one in dir(found) if not one.startswith("_")]
            near = difflib.get_close_matches(part, names, cutoff=0.6)
            own = [one for one in names if getattr(getattr(found, one), "__module__", None) == name]
            said = (
                f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(own[:12]) or 'none of its own'}"
            )
            raise _Mistake(f"module '{name}' has no function '{part}'; {said}")
        found = getattr(found, part)
    return found


def _check_callable(name: str, function: Callable[..., Any]) -> None:
    """ValueError for what cannot be called without arguments."""
    if not callable(function):
        raise ValueError(f"{name} is {described(function)}; expected a function that gives {_SHAPES}")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise ValueError(f"{name} is called without arguments, but {error}; give them defaults") from None
    except ValueError:
        pass  # it does not tell what it takes


def _taken(name: str, found: Any) -> Called:
    """What a function gave, as a module and perhaps an example."""
    example = None
    if isinstance(found, tuple | list) and len(found) == 2:
        found, example = found
        if isinstance(example, tuple | list) and len(example) == 1:
            example = example[0]
        if not isinstance(example, Tensor):
            raise ValueError(f"{name} gives {described(example)} as its example; expected a picture (1, 3, H, W)")
    if isinstance(found, Mapping) and found and all(isinstance(one, nn.Module) for one in found.values()):
        found = _Tasks({str(task): module for task, module in found.items()})
    if isinstance(found, ExportedProgram):
        found, picture = module_of(found)
        return Called(module=found, example=picture)
    if not isinstance(found, nn.Module):
        raise ValueError(f"{name} gives {described(found)}; expected {_SHAPES}")
    return Called(module=found.eval(), example=example)
