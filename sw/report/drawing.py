"""A network as a drawing (SVG): from the picture down to the results, a box for each operator, a frame for each layer.

Operators that only name parts of tensors are left out. Arrows that pass others run in lanes beside the boxes. Layers
that repeat are drawn once. Colours are those of the page, or the drawing's own where it stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from tessera.golden.network.network import Network
from tessera.sw.report.outline import Layer, OutlineItem, Series, of_network, sized

WIDTH, HEIGHT, GAP, BESIDE = 236, 38, 20, 18
"""A box; the space below it, and beside it."""
LANE, MARGIN, HEAD, DOT = 13, 18, 26, 24
"""Between two lanes; around a frame's boxes; for a frame's title; the height of a sum."""

_NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'
"""What a file needs; in a page the drawing is part of HTML."""
_NAMES_ONLY = frozenset({"reshape", "part"})
_SIGNS = {"add": "+", "multiply": "\u00d7"}
_SORTS = {
    "linear": "product",
    "convolution": "product",
    "attend": "attention",
    "mix_experts": "experts",
    "normalise": "norm",
    "scale": "norm",
    "activate": "function",
    "picture": "data",
    "constant": "data",
}
_SAID = frozenset({"picture", "normalise", "activate", "mix_experts", "constant"})
"""Kinds whose details say what they are."""

_COLOURS = """
.net { font: 12px system-ui, sans-serif; }
.net text { fill: var(--ink); }
.net .quiet { fill: var(--quiet); font-size: 11px; }
.net .name { font-weight: 600; }
.net .box { fill: var(--paper); stroke: var(--line); }
.net .frame { fill: var(--soft); stroke: var(--line); }
.net .edge { fill: none; stroke: var(--muted); stroke-width: 1.4; }
.net .tip { fill: var(--muted); }
.net .result { fill: var(--accent); }
.net .result + text { fill: var(--paper); font-weight: 600; }
.net .product { fill: #0072b2; } .net .attention { fill: #cc79a7; } .net .experts { fill: #e69f00; }
.net .norm { fill: #009e73; } .net .function { fill: #d55e00; } .net .data { fill: #56b4e9; }
.net .other { fill: #8c96a0; }
"""

_ALONE = """
.net { --ink: #1c2733; --paper: #fff; --quiet: #57606a; --line: #c5ced7; --soft: #f3f6f9; --accent: #1f6feb;
  --muted: #8c96a0; background: var(--paper); }
@media (prefers-color-scheme: dark) {
  .net { --ink: #e6edf3; --paper: #0f141a; --quiet: #a3b0bd; --line: #3a4754; --soft: #19212a; --accent: #6cb6ff;
    --muted: #7d8a97; }
}
"""


@dataclass
class _Box:
    """An item with its place; ``result`` is the name of a task instead."""

    item: OutlineItem
    rank: int
    x: float = 0.0
    y: float = 0.0
    result: str = ""

    @property
    def sign(self) -> str:
        """What a sum or a product of two is drawn with."""
        return "" if self.result else _SIGNS.get(self.item.kind, "")

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        return (DOT, DOT) if self.sign else (WIDTH, DOT if self.result else HEIGHT)


@dataclass
class _Drawing:
    """Boxes by name in order of rows, and the frames around them."""

    boxes: dict[str, _Box] = field(default_factory=dict)
    frames: list[tuple[Series, int, int, int]] = field(default_factory=list)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)


def drawing(network: Network, *, alone: bool) -> str:
    """The drawing as SVG; ``alone`` with colours of its own, for a file."""
    found = _ranked(of_network(network))
    ranks = 1 + max(box.rank for box in found.boxes.values())
    rows = [[box for box in found.boxes.values() if box.rank == rank] for rank in range(ranks)]
    lanes = _lanes(found)
    left = 2 * MARGIN + LANE * (1 + max(lanes.values(), default=-1))
    widest = max(sum(box.size[0] for box in row) + BESIDE * (len(row) - 1) for row in rows)
    starts = {first for _, _, first, _ in found.frames}
    ends = {last for _, _, _, last in found.frames}
    y = float(MARGIN)
    for rank, row in enumerate(rows):
        y += HEAD + MARGIN if rank in starts else 0
        x = left + (widest - sum(box.size[0] for box in row) - BESIDE * (len(row) - 1)) / 2
        for box in row:
            box.x, box.y = x, y
            x += box.size[0] + BESIDE
        y += max(box.size[1] for box in row) + GAP + (MARGIN if rank in ends else 0)
    width, height = left + widest + 2 * MARGIN, y
    parts = [*_frames(found, rows, left, width), *_edges(found, lanes, left), *map(_box, found.boxes.values())]
    style = f"<style>{_ALONE if alone else ''}{_COLOURS}</style>"
    title = f"<title>{escape(network.name)}: its operators, from the picture to the results</title>"
    return (
        f'<svg{" " + _NAMESPACE if alone else ""} class="net" role="img" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}">{title}{style}{"".join(parts)}</svg>\n'
    )


def _ranked(outline: Sequence[Series]) -> _Drawing:
    """Every box in its row: below all that it reads; what reads nothing stands beside what reads it first."""
    found, base = _Drawing(), 0
    passed: dict[str, str] = {}
    for series in outline:
        for index, layer in enumerate(series.layers):
            shown = _shown(layer, passed)
            if not shown:
                continue
            known = {item.name: base for item, _ in shown}
            for item, sources in shown:
                known[item.name] = max([base, *(known[name] + 1 for name in sources if name in known)])
            for item, _ in shown:
                if item.kind == "constant":
                    readers = [known[other.name] for other, sources in shown if item.name in sources]
                    known[item.name] = max(base, min(readers, default=base + 1) - 1)
            for item, sources in shown:
                found.boxes[item.name] = _Box(item, known[item.name])
                found.sources[item.name] = sources
            last = max(known.values())
            if layer.place:
                found.frames.append((series, index, base, last))
            base = last + 1
        for first, final in zip(
            series.layers, series.last, strict=True
        ):  # what reads the last one is drawn to the first
            passed |= {f"{final}.{item.part}": passed.get(item.name, item.name) for item in first.items if final}
    results = [(box.item, task) for box in list(found.boxes.values()) for task in box.item.tasks]
    for item, task in results:
        found.boxes[f"{item.name}={task}"] = _Box(item, base, result=task)
        found.sources[f"{item.name}={task}"] = (item.name,)
    return found


def _shown(layer: Layer, passed: dict[str, str]) -> list[tuple[OutlineItem, tuple[str, ...]]]:
    """Items that are drawn, with what they read; ``passed`` says what stands for those that are not."""
    found = []
    for item in layer.items:
        sources = tuple(dict.fromkeys(passed.get(source, source) for source in item.sources))
        if item.kind in _NAMES_ONLY and not item.tasks:
            passed[item.name] = sources[0]
        else:
            found.append((item, sources))
    return found


def _passes(found: _Drawing) -> Iterator[tuple[str, str]]:
    """Arrows that pass a row of boxes: from and to."""
    for name, sources in found.sources.items():
        for source in sources:
            if source in found.boxes and found.boxes[name].rank > found.boxes[source].rank + 1:
                yield source, name


def _lanes(found: _Drawing) -> dict[tuple[str, str], int]:
    """A lane for each such arrow; short ones run inside, and no two of a lane meet."""
    taken: dict[int, list[tuple[int, int]]] = {}
    lanes = {}
    spans = {edge: (found.boxes[edge[0]].rank, found.boxes[edge[1]].rank) for edge in _passes(found)}
    for edge, (top, bottom) in sorted(spans.items(), key=lambda one: (one[1][1] - one[1][0], one[1])):
        lane = 0
        while any(top < other[1] and other[0] < bottom for other in taken.get(lane, ())):
            lane += 1
        taken.setdefault(lane, []).append((top, bottom))
        lanes[edge] = lane
    return lanes


def _frames(found: _Drawing, rows: Sequence[Sequence[_Box]], left: float, width: float) -> Iterator[str]:
    for series, index, first, last in found.frames:
        top = rows[first][0].y - HEAD - MARGIN / 2
        bottom = max(box.y + box.size[1] for box in rows[last]) + MARGIN / 2
        yield _rect(MARGIN / 2, top, width - MARGIN, bottom - top, "frame", 8)
        yield _text(left, top + 18, series.title(index), "name")
        if series.times > 1:
            yield _text(width - MARGIN, top + 18, f"\u00d7 {series.times}", "name", "end")


def _edges(found: _Drawing, lanes: dict[tuple[str, str], int], left: float) -> Iterator[str]:
    for name, sources in found.sources.items():
        for source in (source for source in sources if source in found.boxes):
            a, b = found.boxes[source], found.boxes[name]
            x, y, u, v = a.x + a.size[0] / 2, a.y + a.size[1], b.x + b.size[0] / 2, b.y - 5
            down = f'<path class="tip" d="M{u - 4:g} {v:g}h8l-4 5z"/>'
            if (source, name) not in lanes:
                middle = (y + v) / 2
                yield f'<path class="edge" d="M{x:g} {y:g}C{x:g} {middle:g} {u:g} {middle:g} {u:g} {v:g}"/>{down}'
                continue
            lane = left - MARGIN / 2 - LANE * lanes[source, name]
            before = f"M{x:g} {y:g}v6H{lane + 6:g}q-6 0 -6 6V"
            if any(other.rank == b.rank and other.x < b.x for other in found.boxes.values()):
                yield f'<path class="edge" d="{before}{v - 14:g}q0 6 6 6H{u - 4:g}q4 0 4 4V{v:g}"/>{down}'
                continue
            u, v = b.x - 5, b.y + b.size[1] / 2
            yield f'<path class="edge" d="{before}{v - 6:g}q0 6 6 6H{u:g}"/>'
            yield f'<path class="tip" d="M{u:g} {v - 4:g}v8l5 -4z"/>'


def _box(box: _Box) -> str:
    width, height = box.size
    x, y, middle, item = box.x, box.y, box.x + width / 2, box.item
    if box.result:
        return f"<g>{_rect(x, y, width, height, 'result', 12)}{_text(middle, y + 16, box.result, '', 'middle')}</g>"
    weights = f", {item.parameters:,} weights" if item.parameters else ""
    title = f"<title>{escape(item.name)}: {escape(item.kind)}, {sized(item.shape)}{weights}</title>"
    if box.sign:
        return (
            f'<g>{title}<circle class="box" cx="{middle:g}" cy="{y + height / 2:g}" r="{height / 2:g}"/>'
            f"{_text(middle, y + height / 2 + 5, box.sign, 'name', 'middle')}</g>"
        )
    words = [] if item.kind in _SAID else ["attention" if item.kind == "attend" else item.kind.replace("_", " ")]
    what = ", ".join([*words, item.detail] if item.detail else words).replace(" x ", " \u00d7 ")
    shape = sized(item.shape).replace("x", "\u00d7")
    room = int((width - 32 - 6 * len(shape)) / 7.6)
    return (
        f"<g>{title}{_rect(x, y, width, height, 'box', 5)}"
        f'<path class="{_SORTS.get(item.kind, "other")}" d="M{x:g} {y + 5:g}q0 -5 5 -5v{height:g}q-5 0 -5 -5z"/>'
        f"{_text(x + 14, y + 16, _cut(item.part, room), 'name')}{_text(x + width - 9, y + 16, shape, 'quiet', 'end')}"
        f"{_text(x + 14, y + 31, _cut(what, -38), 'quiet')}</g>"
    )


def _cut(text: str, most: int) -> str:
    """The end of a text, or, for a negative number, its beginning."""
    if len(text) <= abs(most):
        return text
    return f"{text[: -most - 1]}\u2026" if most < 0 else f"\u2026{text[1 - most :]}"


def _rect(x: float, y: float, width: float, height: float, kind: str, round: float) -> str:
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round:g}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
