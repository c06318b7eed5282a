"""The command line, the Python API, models and import formats, from the code that offers them."""

from __future__ import annotations

import inspect
import re
from typing import Any

import typer.main

import tessera
from docs.site.markdown import code, table
from tessera.golden.config import MODELS, ModelConfig
from tessera.sw.cli import app
from tessera.sw.data.datasets import DATASETS
from tessera.sw.models.importer import FORMATS


def command_line() -> str:
    """Each command: what it does, examples, options with defaults."""
    program: Any = typer.main.get_command(app)
    parts = []
    for name, command in program.commands.items():
        text, examples = _help(command.callback)
        parts += [f"## tessera {name}", "", text, ""]
        if examples:
            parts += ["```console", *(f"$ {line}" for line in examples), "```", ""]
        rows = [row for row in map(_parameter, command.params) if row]
        if rows:
            parts += [table(("option", "default", "meaning"), rows), ""]
    return "\n".join(parts)


def _help(callback: Any) -> tuple[str, list[str]]:
    """The text of a command, and its examples."""
    text, *shown = re.split(r"\nExamples?(?:\n-+|:)\n", inspect.getdoc(callback) or "")
    lines = [line.strip() for part in shown for line in part.splitlines()]
    return text.replace("``", "`").replace("<", "&lt;").strip(), [line for line in lines if line]


def _parameter(parameter: Any) -> tuple[str, str, str] | None:
    if parameter.name == "help" or getattr(parameter, "hidden", False):
        return None
    names = ", ".join(code(name) for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = code(parameter.name.upper())
    default = parameter.default
    shown = "required" if parameter.required else "" if default in (None, False) or callable(default) else code(default)
    return names, shown, parameter.help or ""


def api() -> str:
    """Everything that ``import tessera`` offers: functions first, then types."""
    functions, types = [], []
    for name in tessera.__all__:
        found = getattr(tessera, name)
        if inspect.isclass(found):
            types.append(name)
        elif callable(found):
            functions.append(name)
    parts = ["## Functions", "", "```{eval-rst}"]
    parts += [f".. autofunction:: tessera.{name}" for name in functions]
    parts += ["```", "", "## Types", "", "```{eval-rst}"]
    for name in types:
        parts += [f".. autoclass:: tessera.{name}", "   :members:", ""]
    return "\n".join([*parts, "```"])


def models() -> str:
    """Every geometry that has a name."""
    rows = [(code(name), *_geometry(config)) for name, config in MODELS.items()]
    return table(("model", "pictures", "tokens x channels", "layers", "experts", "tasks"), rows)


def _geometry(config: ModelConfig) -> tuple[str, ...]:
    experts = "none"
    if config.experts:
        experts = f"{config.experts} in {len(config.expert_layers)} of them, top {config.top_k}"
    tasks = ", ".join(f"{task.name} ({task.kind})" for task in config.tasks)
    size = f"{config.image_height} x {config.image_width}"
    return size, f"{config.tokens} x {config.dim}", str(config.layers), experts, tasks


def import_formats() -> str:
    """What ``tessera import`` reads."""
    rows = [
        (code(name), entry.what, ", ".join(code(f"--{one.replace('_', '-')}") for one in sorted(entry.options)))
        for name, entry in FORMATS.items()
    ]
    return table(("`--format`", "what", "options that it takes"), rows)


def datasets() -> str:
    """What ``tessera evaluate --data`` reads."""
    rows = [
        (code(name), ", ".join(entry.tasks), " or ".join(map(str, entry.classes))) for name, entry in DATASETS.items()
    ]
    return table(("`--data`", "tasks with truth", "classes"), rows)
