"""The reference says all that the code defines, every page can be reached, and the site builds without a warning."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import tessera
from docs.site.attributes import sentences
from docs.site.markdown import table
from docs.site.pages import PARTS, filled
from tessera.common.paths import PROJECT_ROOT
from tessera.hw.formats import Numerics
from tessera.hw.isa import FIELDS, Destination, ErrorCode, Opcode
from tessera.hw.presets import PRESETS
from tessera.hw.register_map import REGISTERS
from tessera.sw.cli import app

DOCS = PROJECT_ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md"))


def test_every_definition_is_in_its_part():
    assert all(f"`{name}`" in PARTS["registers"]() for name in REGISTERS)
    assert all(f"| `{field.name}` |" in PARTS["commands"]() for fields in FIELDS.values() for field in fields)
    assert all(f"\n## {opcode.name}\n" in PARTS["commands"]() for opcode in Opcode)
    assert all(f"| {code.value} | `{code.name}` |" in PARTS["codes"]() for code in ErrorCode)
    assert all(f"`{name}`" in PARTS["presets"]() for name in PRESETS)
    assert "| `residual` | s18, 11 fraction | s20, 13 fraction | s22, 15 fraction |" in PARTS["formats"]()
    assert all(f"tessera.{name}\n" in PARTS["api"]() for name in tessera.__all__ if callable(getattr(tessera, name)))


def test_every_command_is_there_with_its_options():
    text = PARTS["command_line"]()
    for command in app.registered_commands:
        assert f"\n## tessera {command.name}\n" in f"\n{text}"
    assert "| `--preset` | `edge` |" in text and "| `--out`, `-o` |" in text
    assert "--------" not in text.replace("|---", "")  # no heading of a docstring is left


def test_options_of_import_formats_are_those_of_the_command():
    line = next(part for part in PARTS["command_line"]().split("\n## ") if part.startswith("tessera import"))
    named = set(re.findall(r"`(--[\w-]+)`", PARTS["import_formats"]())) - {"--format"}
    offered = set(re.findall(r"`(--[\w-]+)`", " ".join(re.findall(r"^\| ([^|]*) \|", line, re.MULTILINE))))
    assert named and named <= offered, named - offered


def test_a_property_says_no_type_before_a_colon():
    """Sphinx takes what stands before a colon in the first line of a property's docstring for its type."""
    types = [found for found in (getattr(tessera, name) for name in tessera.__all__) if inspect.isclass(found)]
    assert types
    first = {
        f"{owner.__name__}.{name}": (inspect.getdoc(value) or "").partition("\n")[0]
        for owner in types
        for name, value in inspect.getmembers(owner, lambda value: isinstance(value, property))
        if not name.startswith("_")
    }
    assert [name for name, line in first.items() if re.search(r"(?<!:):\s", line)] == []


def test_the_keys_of_json_files_are_there_at_any_depth():
    text = PARTS["json_files"]()
    assert all(f"## {path.stem}\n" in text for path in (PROJECT_ROOT / "common" / "schemas").glob("*.json"))
    for key in ("processor.cores", "data.classes", "results[].mean_iou", "tasks.NAME.cycles"):
        assert f"| `{key}` |" in text, key
    assert "| `results[].arithmetic` | `float` or `integer` or `rtl` | What computed. |" in text


def test_what_is_said_of_members_is_found():
    assert sentences(Destination)["RESIDUAL_ADD"] == "Added to the residual memory, saturating."
    assert sentences(Numerics)["residual"] == "Residual stream, and the logits of the heads."


def test_a_bar_does_not_end_a_cell():
    assert table(["a"], [["log2 P | log2\nT"]]).splitlines()[-1] == "| log2 P \\| log2 T |"


def test_pages_ask_only_for_what_there_is():
    asked = {name for page in PAGES for name in re.findall(r"<!-- insert: (\w+) -->", page.read_text())}
    assert asked == set(PARTS)
    assert "<!-- insert" not in filled("<!-- insert: presets -->\n")


def test_every_page_can_be_reached():
    listed = re.findall(
        r"^(?!:)([\w/.-]+)$", "".join(re.findall(r"```{toctree}(.*?)```", (DOCS / "index.md").read_text(), re.S)), re.M
    )
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES}
    assert sorted(listed) == sorted(pages - {"index"})


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="make docs brings Sphinx")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(DOCS), str(tmp_path / "site")]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
