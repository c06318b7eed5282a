"""Signed registers as wide as the host's integers, side by side, for the fast simulation.

A register of 18 or 34 bits costs a mask at each write and an extension of its sign at each read. One that is only read
as a signed number, by another sum, product or comparison of signed numbers, can hold the same number in 32 or 64 bits.
If what it takes is an exact sum or product, which never wraps, neither mask nor extension is left; and C++ compilers
turn a lane's registers into vectors when they are neighbours in memory, which is why declarations are put in order.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from tessera.sim.verilator.simplify import INSTANCE, MODULE, NAME, TOKEN

_PORT = re.compile(rf"^    \.(?P<port>{NAME}) ?\((?P<net>{NAME}) ?\),?\n", re.MULTILINE)
_DECLARED = re.compile(
    rf"^  (?P<kind>reg|wire|input|output) \[(?P<top>\d+):0\] (?P<name>{NAME}) ?(?: = \d+'[hd](?P<value>\w+))?;\n",
    re.MULTILINE,
)
_OPERAND = r"\$signed\([^()]*\)"
_WHOLE = re.compile(rf"\$signed\((?P<name>{NAME}) ?\)")
_SIGNED = re.compile(
    rf"^  assign (?P<name>{NAME}) +?= (?P<a>{_OPERAND}) (?P<operator>[-+*]|[<>]=?|[=!]=) (?P<b>{_OPERAND});\n",
    re.MULTILINE,
)
_CLEARED = re.compile(rf"^ +(?P<name>{NAME}) <= \d+'[hd]0+;\n", re.MULTILINE)
_TAKES = re.compile(
    rf"^(?P<left> +(?P<name>{NAME}) <= )(?P<value>(?P<source>{NAME})(?: ?\[[\d:]+\])?|\{{ [^;=?]* \}}) ?;\n",
    re.MULTILINE,
)
_BODY = re.compile(rf"^  (?:assign|always|initial|{NAME} +{NAME} \()", re.MULTILINE)


def natural_widths(text: str) -> str:
    """The design with such registers in 32 or 64 bits, and with the nets of instances declared in their order."""
    modules = {match["name"]: _Module(match[0]) for match in MODULE.finditer(text)}
    places: dict[str, list[tuple[_Module, dict[str, str]]]] = defaultdict(list)
    for module in modules.values():
        for instance in INSTANCE.finditer(module.text):
            nets = {match["port"]: match["net"] for match in _PORT.finditer(instance["ports"])}
            places[instance["module"]].append((module, nets))
    for name, module in modules.items():
        module.choose(places[name])
    return MODULE.sub(lambda match: modules[match["name"]].widened(), text)


class _Module:
    """What a module's text says of its names, and which of them are to be widened."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.chosen: set[str] = set()  # registers, wires of their next values, and nets that carry them
        self.extended: set[str] = set()  # registers whose next value still has to be extended
        self._uses = Counter(TOKEN.findall(text))
        self._cleared = Counter(match["name"] for match in _CLEARED.finditer(text))
        self._sums = {match["name"]: match for match in _SIGNED.finditer(text)}
        operands = (_WHOLE.fullmatch(match[side]) for match in self._sums.values() for side in "ab")
        self._read_signed = Counter(match["name"] for match in operands if match)
        self._width: dict[str, int] = {}
        self._declared: Counter[str] = Counter()
        self._outputs: set[str] = set()
        self._nonzero: set[str] = set()
        for match in _DECLARED.finditer(text):
            name, kind = match["name"], match["kind"]
            self._width[name] = int(match["top"]) + 1
            self._declared[name] += 1 + (kind in ("input", "output"))  # the header lists ports as well
            if kind == "output":
                self._outputs.add(name)
            if (match["value"] or "").strip("0"):
                self._nonzero.add(name)

    def only_signed(self, name: str, others: int) -> bool:
        """Whether every use but ``others``, declarations and resets reads the name as a signed number."""
        known = self._declared[name] + self._cleared[name] + self._read_signed[name]
        return self._uses[name] == known + others and name not in self._nonzero

    def choose(self, places: list[tuple[_Module, dict[str, str]]]) -> None:
        """Find the registers; an output counts if the module's only instance drives a net that is read likewise."""
        for match in _TAKES.finditer(self.text):
            name, width = match["name"], self._width.get(match["name"], 0)
            if not 8 < width < 64 or width == 32 or not self.only_signed(name, 1):
                continue
            exact = match["value"] == match["source"] and self._exact(match["source"], width)
            if name in self._outputs:
                if not exact or len(places) != 1:
                    continue
                outer, nets = places[0]
                net = nets.get(name, "")
                if outer._width.get(net) != width or net in outer._outputs or not outer.only_signed(net, 1):
                    continue
                outer.chosen.add(net)
            elif not self._read_signed[name]:
                continue
            self.chosen.add(name)
            (self.chosen if exact else self.extended).add(match["source"] if exact else name)

    def _exact(self, wire: str, width: int) -> bool:
        """Whether a wire is nothing but a register's next value, a sum or product that fits ``width``."""
        if wire not in self._sums or self._uses[wire] != 3 or self._width.get(wire) != width:
            return False
        operator = self._sums[wire]["operator"]
        operands = (_WHOLE.fullmatch(self._sums[wire][side]) for side in "ab")
        a, b = (self._width.get(match["name"], 64) if match else 64 for match in operands)
        return operator in "+-*" and width >= (a + b if operator == "*" else max(a, b) + 1)

    def widened(self) -> str:
        """The text with the chosen names in 32 or 64 bits."""

        def natural(match: re.Match[str]) -> int:
            return 32 if self._width[match["name"]] < 32 else 64

        def declare(match: re.Match[str]) -> str:
            if match["name"] not in self.chosen:
                return match[0]
            text = match[0].replace(f"[{match['top']}:0]", f"[{natural(match) - 1}:0]", 1)
            return re.sub(r" = \d+'[hd]\w+;", f" = {natural(match)}'d0;", text)

        def clear(match: re.Match[str]) -> str:
            if match["name"] not in self.chosen:
                return match[0]
            return re.sub(r"<= \d+'[hd]0+;", f"<= {natural(match)}'d0;", match[0])

        def take(match: re.Match[str]) -> str:
            return f"{match['left']}$signed({match['value']} );\n" if match["name"] in self.extended else match[0]

        return _in_order(_CLEARED.sub(clear, _DECLARED.sub(declare, _TAKES.sub(take, self.text))))


def _in_order(text: str) -> str:
    """Declare the nets of instances in the order of instances and ports."""
    nets = [match["net"] for instance in INSTANCE.finditer(text) for match in _PORT.finditer(instance["ports"])]
    wires = {match["name"]: match[0] for match in _DECLARED.finditer(text) if match["kind"] == "wire"}
    moved = {net: wires[net] for net in nets if net in wires}
    body = _BODY.search(text)
    if not moved or body is None:
        return text
    head = _DECLARED.sub(lambda match: "" if moved.get(match["name"]) == match[0] else match[0], text[: body.start()])
    return head + "".join(moved.values()) + text[body.start() :]
