"""Sentences that stand under the members of a class, which Python does not keep."""

from __future__ import annotations

import ast
import inspect
import textwrap


def sentences(owner: type) -> dict[str, str]:
    """What is said of each member: the string after an assignment, or the docstring of a property."""
    body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    last = ""
    for node in body.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            last = node.targets[0].id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            found[last], last = str(node.value.value), ""
        elif isinstance(node, ast.FunctionDef):
            found[node.name], last = ast.get_docstring(node) or "", ""
    return {name: text.replace("``", "`") for name, text in found.items()}
