"""How results show themselves: a few lines in a terminal, a table in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What one wants to know first of a result.

    Parameters
    ----------
    title:
        What it is of.
    columns:
        Names over the columns of values; empty for a single column without a name.
    rows:
        A label and one value per column each.
    """

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    def text(self) -> str:
        """The summary as lines, in columns as wide as they need to be."""
        lines = [("", *self.columns)] if self.columns else []
        lines += self.rows
        widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))] if lines else []
        shown = [
            "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(pairs))
            for pairs in (list(zip(line, widths, strict=True)) for line in lines)
        ]
        return "\n".join([self.title, *(f"  {line.rstrip()}" for line in shown)])

    def html(self) -> str:
        """The summary as a table."""
        head = "".join(f"<th>{escape(name)}</th>" for name in ("", *self.columns))
        body = "".join(
            f"<tr><th style='text-align:left'>{escape(label)}</th>"
            + "".join(f"<td style='text-align:right'>{escape(value)}</td>" for value in values)
            + "</tr>"
            for label, *values in self.rows
        )
        return (
            f"<table><caption style='text-align:left'>{escape(self.title)}</caption>"
            + (f"<thead><tr>{head}</tr></thead>" if self.columns else "")
            + f"<tbody>{body}</tbody></table>"
        )


class Summarised(ABC):
    """A result that shows its summary, whatever the size of what it holds."""

    @abstractmethod
    def summary(self) -> Summary:
        """What to show."""

    def __repr__(self) -> str:
        return self.summary().text()

    def _repr_html_(self) -> str:
        return self.summary().html()
