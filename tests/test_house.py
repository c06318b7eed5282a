"""The rules of the house that imports do not show: where files lie, how long things are, what elaboration may do."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tessera.common.paths import PROJECT_ROOT

PACKAGES = ("common", "golden", "hw", "program", "sim", "sw", "tessera/api")
LONGEST_FUNCTION = 60
MOST_PARAMETERS = 8
MOST_COPIES = 100
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (PROJECT_ROOT / package).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def place(path: Path, node: ast.AST | None = None) -> str:
    line = f":{node.lineno}" if isinstance(node, ast.stmt) else ""
    return f"{path.relative_to(PROJECT_ROOT)}{line}"


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines without the docstring."""
    documented = ast.get_docstring(function, clean=False)
    return function.end_lineno - function.lineno + 1 - (len(documented.splitlines()) if documented else 0)


def parameters(function: Function) -> int:
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def stored_on_self(path: Path) -> Iterator[ast.Attribute]:
    """Attributes that methods of components, other than the constructor, set on ``self``."""
    for owner in ast.walk(tree(path)):
        methods = [node for node in owner.body if isinstance(node, Function)] if isinstance(owner, ast.ClassDef) else []
        if any(method.name == "elaborate" for method in methods):
            for node in (node for method in methods if method.name != "__init__" for node in ast.walk(method)):
                to_self = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
                if to_self and isinstance(node.value, ast.Name) and node.value.id == "self":
                    yield node


def test_nothing_lies_loose_in_sw_but_the_command_line():
    assert {path.name for path in (PROJECT_ROOT / "sw").glob("*.py")} == {"__init__.py", "cli.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_says_what_lives_there(package):
    rooms = [path for path in (PROJECT_ROOT / package).rglob("*") if path.is_dir() and any(path.glob("*.py"))]
    silent = [place(room) for room in rooms if not ast.get_docstring(tree(room / "__init__.py"))]
    assert not silent


def test_tests_mirror_the_folders():
    """Every folder of tests has the name of a folder of code; helpers, docs and what ``make models`` measures apart."""
    folders = {path.parent.relative_to(PROJECT_ROOT / "tests") for path in sources("tests")}
    own = [folder for folder in folders if folder.parts and folder.parts[0] not in ("helpers", "docs", "backbones")]
    assert [str(folder) for folder in own if not (PROJECT_ROOT / folder).is_dir()] == []


def test_no_function_is_longer_than_a_page():
    found = [(path, one) for path in sources(*PACKAGES) for one in functions(path)]
    assert [f"{place(*one)} {one[1].name} {length(one[1])}" for one in found if length(one[1]) > LONGEST_FUNCTION] == []


def test_no_function_takes_more_parameters_than_one_can_hold():
    found = [(path, one) for path in sources(*PACKAGES) for one in functions(path)]
    assert [f"{place(*one)} {one[1].name}" for one in found if parameters(one[1]) > MOST_PARAMETERS] == []


def test_elaboration_leaves_nothing_on_self():
    """A component that sets attributes while elaborating hides in which order its methods must be called."""
    assert [f"{place(path)}:{one.lineno} {one.attr}" for path in sources("hw") for one in stored_on_self(path)] == []


def test_bundles_are_connected_not_copied():
    """Lines that assign a signal to one of the same name: ports that travel together belong into a signature."""
    assignment = re.compile(r"([\w.\[\]]*?)(\w+)\.eq\(([\w.\[\]]*?)(\w+)\)")
    copies = Counter(
        place(path)
        for path in sources("hw")
        for line in path.read_text().splitlines()
        if any(found[1] == found[3] for found in assignment.findall(line))
    )
    assert copies.total() <= MOST_COPIES, copies.most_common(10)


def test_a_name_means_one_thing():
    """No two files define a public class or function of one name, but for the forms that every file of a kind has.

    The API may call what it offers as the floors below do: there, `tessera.run` says which one it is.
    """
    forms = {"main", "command"}  # what `python -m` runs; a command of the command line
    twice = {"round_shift", "saturate"}  # the golden arithmetic is written anew, not taken from the RTL
    definitions: dict[str, list[str]] = {}
    for path in (path for path in sources(*PACKAGES) if path.parent.name != "api"):
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
                definitions.setdefault(node.name, []).append(place(path))
    assert {name: places for name, places in definitions.items() if len(places) > 1 and name not in forms | twice} == {}


def bound(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Names that an import makes."""
    return {name.asname or name.name.partition(".")[0] for name in node.names}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_uses(path: Path) -> Iterator[str]:
    """Names with an underscore of other files: imported, or taken from what is imported."""
    imports = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Import | ast.ImportFrom)]
    ours: set[str] = set()
    for node in imports:
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
        if not any(module.startswith("tessera") for module in modules):
            continue
        ours |= bound(node)
        names = [name.name for name in node.names] + [part for module in modules for part in module.split(".")]
        yield from (f"{place(path, node)} {name}" for name in names if is_private(name))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            root = node.value.func if isinstance(node.value, ast.Call) else node.value
            if isinstance(root, ast.Name) and root.id in ours:
                yield f"{place(path)}:{node.lineno} {root.id}.{node.attr}"


def test_no_file_uses_a_private_name_of_another():
    assert [use for path in sources(*PACKAGES) for use in private_uses(path)] == []


@pytest.mark.parametrize(
    "code",
    [
        "from tessera.common.cache import _age",
        "def f():\n    from tessera.common.cache import _age",
        "from tessera.common._hidden import thing",
        "from tessera.common import cache\ncache._age(1)",
        "from tessera.common.cache import Cache\nCache()._path(1)",
        "import tessera.common.cache as other\nother._age(1)",
    ],
)
def test_a_private_name_is_noticed(tmp_path, monkeypatch, code):
    monkeypatch.setattr("tests.test_house.place", lambda path, node=None: "x")
    (tmp_path / "case.py").write_text(code)
    assert len(list(private_uses(tmp_path / "case.py"))) == 1


def test_nothing_is_imported_past_the_contracts():
    """Imports by a text are invisible to the contracts, and nothing of the product needs the tests."""
    files = [*sources(*PACKAGES), PROJECT_ROOT / "tessera" / "__init__.py"]
    found = {
        place(path)
        for path in files
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Name) and node.id == "__import__")
        or (isinstance(node, ast.Attribute) and node.attr == "import_module")
        or (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("tests", "importlib"))
        or (isinstance(node, ast.Import) and any(name.name.partition(".")[0] == "tests" for name in node.names))
    }
    # Public names are imported when they are asked for, and a user's module when the user names it.
    assert found == {"tessera/__init__.py", "sw/models/exported/called.py"}


def test_folders_with_code_are_known():
    """A new folder of code at the root is a floor, of which the contracts must know."""
    known = {*PACKAGES, "tessera", "tests", "docs", "examples"}
    assert {path.parent.name for path in PROJECT_ROOT.glob("*/*.py")} <= known


def test_text_files_are_utf8_wherever_this_runs():
    """A locale of C would write and read them as ASCII."""
    calls = [
        place(path, node)
        for path in sources(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("read_text", "write_text")
        and "encoding" not in [keyword.arg for keyword in node.keywords]
        and getattr(node.func.value, "id", "") != "files"
    ]
    assert calls == []
