"""Two files of one kind side by side: what changed, and by how much cycles rose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.common.schemas.kinds import BENCH, EVALUATION, RUN
from tessera.common.stamped import Schema, read_document
from tessera.sw.report.compare.contents import CONFIGURATION, CYCLES, SECTIONS, TOOLS, VALUES, Values, stamp_values

NAMES = {"run.json": RUN, "bench.json": BENCH, "evaluation.json": EVALUATION}
"""Files that are looked for in a folder."""
_WIDEST = 1e300  # beyond it is no number that a change in per cent could be taken of
_STAMP = ("schema", "command", "date", "processor", "tessera", "git", "tool_versions")


@dataclass(frozen=True, kw_only=True)
class ComparedFile:
    """One of the two files: its path, the kind of file, and its content."""

    path: Path
    schema: Schema
    data: dict[str, Any]

    @property
    def values(self) -> Values:
        """What is compared of it.

        Raises
        ------
        ValueError
            The content is not as the schema says.
        """
        try:
            _ = [self.data[name] for name in _STAMP]
            return VALUES[self.schema](self.data) | {TOOLS: stamp_values(self.data)}
        except (KeyError, TypeError, AttributeError, ValueError, IndexError):
            command = self.schema.name.removeprefix("tessera-")
            raise ValueError(
                f"{self.path} calls itself {self.schema}, but its content is not as that schema says: a part is "
                f"missing, or of another type. Write the file again with `tessera {command}`"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """What the comparison says about the file."""
        return {"file": str(self.path), "stamp": {name: self.data[name] for name in _STAMP}}


@dataclass(frozen=True, kw_only=True)
class ComparedValue:
    """One value in both files: its task or case, its name, and None where a file has no such value."""

    place: str
    name: str
    before: Any
    after: Any

    @property
    def changed(self) -> bool:
        """Whether the values differ."""
        return self.before != self.after

    @property
    def percent(self) -> float | None:
        """Change in per cent of the value before; None where there is none."""
        if not (_is_number(self.before) and _is_number(self.after)) or not self.before:
            return None
        return 100 * (self.after - self.before) / abs(self.before)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {**vars(self), "percent": self.percent, "changed": self.changed}


@dataclass(frozen=True, kw_only=True)
class FileComparison:
    """Both files, and all their values by section."""

    before: ComparedFile
    after: ComparedFile
    sections: dict[str, list[ComparedValue]]

    @property
    def cycles_rise(self) -> float | None:
        """Largest rise of a task's cycles in per cent, negative if all fell; None without cycles in common."""
        return max((line.percent for line in self.sections[CYCLES] if line.percent is not None), default=None)

    @property
    def incomparable(self) -> list[ComparedValue]:
        """Cycles of the first file that the second has no counterpart for."""
        return [line for line in self.sections[CYCLES] if line.before is not None and line.percent is None]

    @property
    def notices(self) -> list[str]:
        """What limits the comparison."""
        said = []
        for line in self.sections[CYCLES]:
            if line.before is None or line.after is None:
                said.append(f"only the {'second' if line.before is None else 'first'} file has {line.place}")
        other = [line.name for line in self.sections[CONFIGURATION] if line.changed and line.name in _SUBJECT]
        if other:
            said.append(f"the files are of different things; they differ in {', '.join(dict.fromkeys(other))}")
        return said

    def changed(self, section: str) -> list[ComparedValue]:
        """Values of a section that differ."""
        return [line for line in self.sections[section] if line.changed]

    def to_dict(self) -> dict[str, Any]:
        """Content of comparison.json."""
        return {
            "compared": self.before.schema.name,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "notices": self.notices,
            "cycles_rise_percent": self.cycles_rise,
            "sections": {name: [line.to_dict() for line in lines] for name, lines in self.sections.items() if lines},
        }


_SUBJECT = ("model", "preset", "weights", "data.name", "data.split")


def compare_files(before: Path, after: Path) -> FileComparison:
    """Compare two runs, two benches or two evaluations.

    Parameters
    ----------
    before, after:
        JSON files, or folders that hold one.

    Raises
    ------
    ValueError
        A file cannot be read, or the files are not of one kind.
    """
    first, second = _opened(before), _opened(after)
    if first.schema != second.schema:
        raise ValueError(
            f"{first.path} is {first.schema.name}, {second.path} is {second.schema.name}; give two runs, two benches "
            "or two evaluations"
        )
    ours, theirs = first.values, second.values
    sections = {name: _paired(ours.get(name, {}), theirs.get(name, {})) for name in SECTIONS}
    return FileComparison(before=first, after=second, sections=sections)


def _opened(path: Path) -> ComparedFile:
    if path.is_dir():
        there = [path / name for name in NAMES if (path / name).is_file()]
        if len(there) != 1:
            held = f"several files: {', '.join(file.name for file in there)}" if there else "none"
            raise ValueError(f"{path} should hold one of {', '.join(NAMES)}, but holds {held}; name the file itself")
        path = there[0]
    schema, data = read_document(path, list(VALUES))
    return ComparedFile(path=path, schema=schema, data=data)


def _paired(before: Mapping[tuple[str, str], Any], after: Mapping[tuple[str, str], Any]) -> list[ComparedValue]:
    return [
        ComparedValue(place=key[0], name=key[1], before=before.get(key), after=after.get(key))
        for key in dict.fromkeys([*before, *after])
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _WIDEST
