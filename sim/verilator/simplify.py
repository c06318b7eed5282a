"""Amaranth's Verilog rewritten into what Verilator simulates fastest; the design stays the same, signal by signal.

- Memories that begin as zero, a statement a word, get a loop: that compiles in no time.
- A register's next value, a process of its own with a signal of its own, moves into the register's clocked process; the
  registers of a module that are reset alike share one branch. A value is stored once a cycle instead of twice, and what
  stands under an enable is skipped when it is off.
- A unit that sleeps (``tessera.hw.blocks.sleep``) has its clock stopped: nothing of it is evaluated until it wakes.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

_ZEROED = re.compile(
    r"  initial begin\n(?:    (?P<name>\S+)\[\d+\] = \d+'[hdb]0+;\n)(?:    (?P=name)\[\d+\] = \d+'[hdb]0+;\n)*  end\n"
)
NAME = r"(?:\\\S+(?= )|[A-Za-z_][\w$]*)"
TOKEN = re.compile(rf"{NAME}")
MODULE = re.compile(rf"^module (?P<name>{NAME}) ?[;(].*?^endmodule\n", re.DOTALL | re.MULTILINE)
INSTANCE = re.compile(rf"^  (?P<module>{NAME}) +(?P<name>{NAME}) \(\n(?P<ports>(?:    \..*\n)+)  \);\n", re.MULTILINE)
_REGISTER = re.compile(rf"  always @\(posedge clk\)\n    (?P<register>{NAME}) ?<= (?P<next>{NAME}) ?;\n")
# The empty condition makes simulators evaluate the process once at the start.
_PROCESS = re.compile(r"  always @\* begin\n    if \(\\\$auto\S+ \) begin end\n(?P<body>(?:    .*\n)+)  end\n")
_TARGET = re.compile(rf"^ *(?:\{{ )?(?P<name>{NAME})[^=]*? = ", re.MULTILINE)
_RESET = re.compile(rf"    if \((?P<condition>{NAME}) ?\) begin\n      (?P<statement>[^;]*<= \d+'\w+);\n    end\n\Z")


def loop_zeroing(text: str) -> str:
    """Memories that begin as zero, with a loop instead of a statement a word."""

    def loop(match: re.Match[str]) -> str:
        depth = match[0].count("\n") - 2
        return f"  initial for (integer i = 0; i < {depth}; i = i + 1) {match['name']}[i] = 0;\n"

    return _ZEROED.sub(loop, text)


def merge_registers(text: str) -> str:
    """Next values inside the clocked processes of their registers."""
    return MODULE.sub(lambda module: _merged(module[0]), text)


def _merged(module: str) -> str:
    """One module; what does not look as expected stays as it is."""
    uses = Counter(TOKEN.findall(module))
    registers = {match["next"]: match["register"] for match in _REGISTER.finditer(module)}
    bodies: dict[str, str] = {}

    def take(process: re.Match[str]) -> str:
        target = _TARGET.search(process["body"])
        name = target["name"] if target else ""
        # Beside its process the value may only be declared, and read by the register.
        if name not in registers or uses[name] != Counter(TOKEN.findall(process["body"]))[name] + 2:
            return process[0]
        bodies[name] = process["body"]
        return ""

    module = _PROCESS.sub(take, module)
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)

    def place(register: re.Match[str]) -> str:
        if register["next"] not in bodies:
            return register[0]
        body = _clocked(bodies[register["next"]], register["next"], register["register"])
        conditions, statement, rest = _resets(body)
        groups[conditions].append((statement, rest))
        return ""

    module = _REGISTER.sub(place, module)
    return module.replace("endmodule\n", "".join(map(_process, groups, groups.values())) + "endmodule\n")


def _clocked(body: str, value: str, register: str) -> str:
    """A process that computes ``value`` as one that assigns ``register``; holding needs no statement."""
    token = re.escape(value) + (" ?" if value.startswith("\\") else r"(?![\w$])")
    name = register + " " if register.startswith("\\") else register
    lines = []
    for line in body.splitlines():
        target, equals, source = re.sub(token, lambda _: name, line).partition(" = ")
        if not (equals and line.endswith(";")):
            lines.append(line)
        elif lines or target.replace(" ", "") != source[:-1].replace(" ", ""):
            lines.append(f"{target} <= {source}")
    return "".join(f"{line}\n" for line in lines)


def _resets(body: str) -> tuple[tuple[str, ...], str, str]:
    """Conditions at the end of a process that all do the same constant thing, that statement, and what is before."""
    conditions: list[str] = []
    statement = ""
    while (match := _RESET.search(body)) and statement in ("", match["statement"]):
        conditions.append(match["condition"])
        statement, body = match["statement"], body[: match.start()]
    return tuple(conditions), statement, body


def _process(conditions: tuple[str, ...], members: list[tuple[str, str]]) -> str:
    """One clocked process for registers that are reset under the same conditions."""
    rest = "".join(body for _, body in members)
    if not conditions:
        return f"  always @(posedge clk) begin\n{rest}  end\n"
    resets = "".join(f"      {statement};\n" for statement, _ in members)
    either = " | ".join(f"{condition} " for condition in conditions)
    return f"  always @(posedge clk)\n    if ({either}) begin\n{resets}    end else begin\n{rest}    end\n"


def stop_clocks(text: str) -> str:
    """Gated clocks for the instances beside a signal ``INSTANCE_awake``.

    The gate holds its enable from the falling edge on; resets open it.
    """

    def gate(match: re.Match[str]) -> str:
        name = match["name"]
        ports = dict(re.findall(r"    \.(\S+) ?\((.*)\),?\n", match["ports"]))
        if f"{name}_awake" not in ports:
            return match[0]
        opens = " | ".join(ports[port] for port in (f"{name}_awake", "clear", "rst") if port in ports)
        return (
            f"  reg {name}_open;\n  always @(negedge clk) {name}_open <= {opens};\n"
            f"  wire {name}_clk = clk & {name}_open;\n{match[0].replace('.clk(clk)', f'.clk({name}_clk)')}"
        )

    return INSTANCE.sub(gate, text)
