"""A network as a drawing (SVG): from the picture down to the results, a box for each operator, a frame for each layer.

Operators that only name parts of tensors are left out. Arrows that pass others run in lanes beside the boxes. Layers
that repeat are drawn once. Every shape has its colour as an attribute. A style sheet overrides it: with the page's
colours, or, where the drawing stands alone, with those of the dark side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape

from tessera.golden.network.network import Network
from tessera.golden.network.operators import Shape
from tessera.sw.report.drawing_colours import STRIPES, attributes, style_sheet
from tessera.sw.report.maps import map_shapes
from tessera.sw.report.outline import Layer, OutlineItem, Series, of_network, sized

NARROW, WIDE, HEIGHT, GAP, BESIDE = 236, 400, 38, 20, 18
"""A box, whose width the longest text decides; the space below it, and beside it."""
LANE, MARGIN, HEAD, DOT = 13, 18, 26, 24
"""Between two lanes; around a frame's boxes; for a frame's title; the height of a sum."""

_BOLD, _PLAIN = 7.6, 6.1
"""Widths of a letter of a name, and of other text, on average of most fonts."""
_NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'
"""What a file needs; in a page the drawing is part of HTML."""
_FONT = 'font-family="system-ui, sans-serif" font-size="12"'
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


@dataclass
class _Box:
    """An item with its place; ``result`` is the name of a task instead, ``name`` what the box is called."""

    item: OutlineItem
    rank: int
    name: str = ""
    width: float = NARROW
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
        return (DOT, DOT) if self.sign else (self.width, DOT if self.result else HEIGHT)


@dataclass
class _Drawing:
    """Boxes by name in order of rows, and the frames around them."""

    boxes: dict[str, _Box] = field(default_factory=dict)
    frames: list[tuple[Series, int, int, int]] = field(default_factory=list)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)


def drawing(network: Network, *, alone: bool) -> str:
    """The drawing as SVG; ``alone`` with colours of its own, for a file."""
    found = _ranked(of_network(network), map_shapes(network))
    broad = min(max(NARROW, *map(_needed, found.boxes.values())), WIDE)
    for box in found.boxes.values():
        box.width = broad
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
    if alone:
        parts.insert(0, f'<rect {attributes("ground")} width="{width:g}" height="{height:g}"/>')
    style = f"<style>\n{style_sheet(alone=alone)}\n</style>"
    title = f"<title>{escape(network.name)}: its operators, from the picture to the results</title>"
    return (
        f'<svg{" " + _NAMESPACE if alone else ""} class="net" role="img" {_FONT} width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}">{title}{style}{"".join(parts)}</svg>\n'
    )


def _ranked(outline: Sequence[Series], shapes: Mapping[str, Shape]) -> _Drawing:
    """Every box in its row: below all that it reads; what reads nothing stands beside what reads it first.

    ``shapes`` are those to write instead of the items' own.
    """
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
            framed = bool(layer.place) and (len(shown) > 1 or series.times > 1)
            for item, sources in shown:
                told = replace(item, shape=shapes.get(item.name, item.shape))
                found.boxes[item.name] = _Box(told, known[item.name], item.part if framed else item.name)
                found.sources[item.name] = sources
            last = max(known.values())
            if framed:
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
            down = f'<path {attributes("tip")} d="M{u - 4:g} {v:g}h8l-4 5z"/>'
            if (source, name) not in lanes:
                middle = (y + v) / 2
                curve = f"M{x:g} {y:g}C{x:g} {middle:g} {u:g} {middle:g} {u:g} {v:g}"
                yield f'<path {attributes("edge")} d="{curve}"/>{down}'
                continue
            lane = left - MARGIN / 2 - LANE * lanes[source, name]
            before = f"M{x:g} {y:g}v6H{lane + 6:g}q-6 0 -6 6V"
            if any(other.rank == b.rank and other.x < b.x for other in found.boxes.values()):
                yield f'<path {attributes("edge")} d="{before}{v - 14:g}q0 6 6 6H{u - 4:g}q4 0 4 4V{v:g}"/>{down}'
                continue
            u, v = b.x - 5, b.y + b.size[1] / 2
            yield f'<path {attributes("edge")} d="{before}{v - 6:g}q0 6 6 6H{u:g}"/>'
            yield f'<path {attributes("tip")} d="M{u:g} {v - 4:g}v8l5 -4z"/>'


def _box(box: _Box) -> str:
    width, height = box.size
    x, y, middle, item = box.x, box.y, box.x + width / 2, box.item
    if box.result:
        text = _text(middle, y + 16, _cut(box.result, -_letters(width - 24, _BOLD)), "told", "middle")
        return f"<g>{_rect(x, y, width, height, 'result', 12)}{text}</g>"
    weights = f", {item.parameters:,} weights" if item.parameters else ""
    title = f"<title>{escape(item.name)}: {escape(item.kind)}, {sized(item.shape)}{weights}</title>"
    if box.sign:
        return (
            f'<g>{title}<circle {attributes("box")} cx="{middle:g}" cy="{y + height / 2:g}" r="{height / 2:g}"/>'
            f"{_text(middle, y + height / 2 + 5, box.sign, 'name', 'middle')}</g>"
        )
    shape = _shape(item)
    name = _cut(box.name, _letters(width - 32 - _PLAIN * len(shape), _BOLD))
    what = _cut(_what(item), -_letters(width - 23, _PLAIN))
    stripe = STRIPES[_SORTS.get(item.kind, "other")]
    return (
        f"<g>{title}{_rect(x, y, width, height, 'box', 5)}"
        f'<path fill="{stripe}" d="M{x:g} {y + 5:g}q0 -5 5 -5v{height:g}q-5 0 -5 -5z"/>'
        f"{_text(x + 14, y + 16, name, 'name')}{_text(x + width - 9, y + 16, shape, 'quiet', 'end')}"
        f"{_text(x + 14, y + 31, what, 'quiet')}</g>"
    )


def _what(item: OutlineItem) -> str:
    """The second line of a box."""
    words = [] if item.kind in _SAID else ["attention" if item.kind == "attend" else item.kind.replace("_", " ")]
    return ", ".join([*words, item.detail] if item.detail else words).replace(" x ", " \u00d7 ")


def _shape(item: OutlineItem) -> str:
    return sized(item.shape).replace("x", "\u00d7")


def _needed(box: _Box) -> float:
    """The width at which a box has room for its text."""
    if box.sign:
        return 0
    if box.result:
        return 24 + _BOLD * len(box.result)
    item = box.item
    return max(32 + _PLAIN * len(_shape(item)) + _BOLD * len(box.name), 23 + _PLAIN * len(_what(item)))


def _letters(room: float, each: float) -> int:
    return int(room / each + 1e-6)


def _cut(text: str, most: int) -> str:
    """The end of a text, or, for a negative number, its beginning."""
    if len(text) <= abs(most):
        return text
    return f"{text[: -most - 1]}\u2026" if most < 0 else f"\u2026{text[1 - most :]}"


def _rect(x: float, y: float, width: float, height: float, kind: str, round: float) -> str:
    return f'<rect {attributes(kind)} x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round:g}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text {attributes(kind)} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
