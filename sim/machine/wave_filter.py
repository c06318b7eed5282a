"""Waves of chosen units out of a VCD of the whole machine, while it is being written.

The debug build traces every signal: tens of kilobytes per cycle. A pipe takes them, and only what has been asked for
reaches a file: signals that have names, fields of structures one by one, and where the machine is in its program.
"""

from __future__ import annotations

import os
import re
import select
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tessera.sim.machine.hierarchy import UnitModule, plain_name

TOP, MACHINE = "machine", "dut"
"""Scopes of the test harness and of the accelerator in it."""
_ALWAYS = ("clk", "cycle", "frame", "interrupt")
"""Signals of the harness that tell where one is."""
_PLACE = "trace_place"
_PARTS = {"command": (0, 16), "expert": (16, 15)}
"""Bits of the place of the engine's latest job that become signals of their own: lowest bit and width."""
_EVERYWHERE = {"clk", "rst"}
_NAMELESS = re.compile(rb"\$|port\$\d|U\$")
_VARIABLE = re.compile(rb"\s*\$var (\w+) (\d+) (\S+) (\S+)(?: (\[\d+:\d+\]))? \$end")
_SCOPE = re.compile(rb"\s*\$scope (\w+) (\S+) \$end")
_CUT = re.compile(r"[.\[]")
"""What parts a field or an element from what it is of."""
_STRUCTURE = "begin"
"""Kind of scope for a structure. The standard of VCD has none of its own, and not every reader knows ``struct``."""
_CHUNK = 1 << 20
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class WaveSignal:
    """A signal of a VCD.

    Parameters
    ----------
    scopes:
        Names of the modules around it, outermost first.
    name:
        Its name there; a field has the names of its structures before it.
    width:
        Bits.
    code:
        Its identifier in the file.
    """

    scopes: tuple[str, ...]
    name: str
    width: int
    code: str

    @property
    def path(self) -> str:
        """Its whole name, as viewers write it."""
        return ".".join((*self.scopes, self.name))

    @property
    def base(self) -> str:
        """Name of the port or signal that it is, or is a field or an element of."""
        return _CUT.split(self.name, maxsplit=1)[0]


def wave_signals(file: Path) -> list[WaveSignal]:
    """The signals that a VCD declares, in order."""
    with file.open("rb") as lines:
        return list(_declared(lines))


def _declared(lines: Iterable[bytes]) -> Iterator[WaveSignal]:
    """The declared signals, up to the end of the header."""
    scopes: list[tuple[bytes, str]] = []
    for line in lines:
        if found := _VARIABLE.match(line):
            modules = tuple(name for kind, name in scopes if kind != _STRUCTURE.encode())
            outer = [name for kind, name in scopes if kind == _STRUCTURE.encode()]
            name = ".".join([*outer, found[4].decode()])
            yield WaveSignal(modules, name, int(found[2]), found[3].decode())
        elif found := _SCOPE.match(line):
            scopes.append((found[1], found[2].decode()))
        elif b"$upscope" in line:
            scopes.pop()
        elif b"$enddefinitions" in line:
            return


class WaveFilter:
    """Keeps the waves of some units.

    Parameters
    ----------
    units:
        The units; those inside them are kept as well.
    """

    def __init__(self, units: Sequence[UnitModule]) -> None:
        self._units = [unit.path for unit in units]
        self._header: list[bytes] = []
        self._rest = b""
        self._kept: set[bytes] | None = None
        self._place = b""
        self._parts: dict[str, bytes] = {}
        self._time = b""

    def feed(self, content: bytes) -> bytes:
        """Take the next bytes of the whole VCD and return those that are kept."""
        lines = (self._rest + content).split(b"\n")
        self._rest = lines.pop()
        if self._kept is not None:
            return self._changes(lines)
        for number, line in enumerate(lines):
            self._header.append(line)
            if b"$enddefinitions" in line:
                return self._choose() + self._changes(lines[number + 1 :])
        return b""

    def _choose(self) -> bytes:
        """Choose signals from the whole header, and return that of the file."""
        chosen: dict[tuple[str, ...], list[WaveSignal]] = {(TOP,): []}
        for signal in _declared(self._header):
            scopes = signal.scopes
            if scopes == (TOP,) and signal.name in _ALWAYS:
                chosen[TOP,].append(signal)
            elif scopes == (TOP,) and signal.name == _PLACE:
                self._place = signal.code.encode()
                chosen[TOP,] += self._places(signal)
            elif scopes[:2] == (TOP, MACHINE) and any(scopes[2:][: len(unit)] == unit for unit in self._units):
                # Amaranth's own signals have no name of their own: $1, port$2$0.
                if not _NAMELESS.match(signal.name.encode()) and signal.name not in _EVERYWHERE:
                    chosen.setdefault((TOP, *map(plain_name, scopes[2:])), []).append(signal)
        chosen = {scopes: _without_wholes(signals) for scopes, signals in chosen.items()}
        self._kept = {signal.code.encode() for signals in chosen.values() for signal in signals}
        self._kept -= set(self._parts.values())
        return _header(chosen)

    def _places(self, signal: WaveSignal) -> list[WaveSignal]:
        """Parts of the place, with identifiers that no other signal has."""
        self._parts = {name: f"{signal.code}~{name}".encode() for name in _PARTS}
        return [WaveSignal((TOP,), name, _PARTS[name][1], code.decode()) for name, code in self._parts.items()]

    def _changes(self, lines: list[bytes]) -> bytes:
        """The changes of kept signals, each time once before the first of them."""
        kept, place, out = self._kept or set(), self._place, []
        for line in lines:
            kind = line[:1]
            if kind == b"#":
                self._time = line
                continue
            code = line[line.rfind(b" ") + 1 :] if kind == b"b" else line[1:]
            if code not in kept and code != place:
                continue
            if self._time:
                out.append(self._time)
                self._time = b""
            out += [line] if code in kept else self._split(line)
        return b"\n".join(out) + b"\n" if out else b""

    def _split(self, line: bytes) -> list[bytes]:
        """A change of the place as changes of its parts."""
        value = int(line[1 : line.rfind(b" ")], 2)
        shown = []
        for name, (low, width) in _PARTS.items():
            shown.append(
                b"b%s %s" % (format(value >> low & ((1 << width) - 1), f"0{width}b").encode(), self._parts[name])
            )
        return shown


def _without_wholes(signals: list[WaveSignal]) -> list[WaveSignal]:
    """The signals without those whose bits are shown as fields or elements."""
    wholes = {signal.name[: cut.start()] for signal in signals for cut in _CUT.finditer(signal.name)}
    return [signal for signal in signals if signal.name not in wholes]


def _header(chosen: dict[tuple[str, ...], list[WaveSignal]]) -> bytes:
    """Declarations as nested scopes: units, and structures within them."""
    tree: dict[tuple[str, ...], list[tuple[str, WaveSignal]]] = {}
    kinds: dict[tuple[str, ...], str] = {}
    for scopes, signals in chosen.items():
        for depth in range(1, len(scopes) + 1):
            kinds.setdefault(scopes[:depth], "module")
            tree.setdefault(scopes[:depth], [])
        for signal in signals:
            *outer, name = signal.name.split(".")
            place = (*scopes, *outer)
            for depth in range(len(scopes) + 1, len(place) + 1):
                kinds.setdefault(place[:depth], _STRUCTURE)
                tree.setdefault(place[:depth], [])
            tree[place].append((name, signal))
    lines = ["$version Tessera: waves of units $end", "$timescale 1ps $end", *_scope((TOP,), tree, kinds)]
    return "\n".join([*lines, "$enddefinitions $end", ""]).encode()


def _scope(
    place: tuple[str, ...], tree: dict[tuple[str, ...], list[tuple[str, WaveSignal]]], kinds: dict[tuple[str, ...], str]
) -> Iterator[str]:
    yield f"$scope {kinds[place]} {place[-1]} $end"
    for name, signal in tree[place]:
        bits = f" [{signal.width - 1}:0]" if signal.width > 1 else ""
        yield f"$var wire {signal.width} {signal.code} {name}{bits} $end"
    for inner in tree:
        if inner[:-1] == place:
            yield from _scope(inner, tree, kinds)
    yield "$upscope $end"


@contextmanager
def filtered_waves(source: Path, target: Path, units: Sequence[UnitModule]) -> Iterator[None]:
    """Make ``source`` a pipe for a simulator to write a VCD into while the block runs; ``target`` gets what is kept."""
    os.mkfifo(source)
    # Open for both ways: whoever writes need not wait for a reader, and a reader whose writer has died is told by us.
    pipe = os.open(source, os.O_RDWR | os.O_NONBLOCK)
    ended = threading.Event()
    kept = WaveFilter(units)

    def copy() -> None:
        with target.open("wb") as out:
            while True:
                # Whether it has ended is asked first: what was written before then is still read.
                last = ended.is_set()
                if select.select([pipe], [], [], 0 if last else _POLL_SECONDS)[0]:
                    out.write(kept.feed(os.read(pipe, _CHUNK)))
                elif last:
                    return

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        os.close(pipe)
