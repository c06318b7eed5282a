"""What viewers need to show waves well: a save file of GTKWave, a command file of Surfer, names of values."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vcd.gtkw import GTKWSave, make_translation_filter

from tessera.program.program import Program
from tessera.sim.machine.hierarchy import NamedSignal, UnitModule, plain_name
from tessera.sim.machine.wave_filter import TOP, WaveSignal

VCD = "waves.vcd"
COMMANDS = "commands.txt"
_DECIMAL = ("cycle", "expert", "frame")
"""Signals of the harness that people read as decimal numbers."""


@dataclass(frozen=True, kw_only=True)
class WaveGroup:
    """Signals of one unit as a viewer shows them.

    Parameters
    ----------
    unit:
        Name of the unit.
    ports, inside:
        Its ports in the order of its signature, and its other signals.
    enums:
        Signals whose values have names.
    """

    unit: str
    ports: tuple[WaveSignal, ...]
    inside: tuple[WaveSignal, ...]
    enums: Mapping[str, NamedSignal]


def wave_groups(signals: Sequence[WaveSignal], units: Sequence[UnitModule]) -> list[WaveGroup]:
    """The recorded signals of the chosen units, without those of units inside them."""
    groups = []
    for unit in units:
        own = [signal for signal in signals if signal.scopes == (TOP, *map(plain_name, unit.path))]
        order = {port: number for number, port in enumerate(unit.ports)}
        ports = sorted((one for one in own if one.base in order), key=lambda one: order[one.base])
        inside = tuple(signal for signal in own if signal.base not in order)
        groups.append(WaveGroup(unit=unit.name, ports=tuple(ports), inside=inside, enums=unit.enums))
    return groups


def value_names(groups: Sequence[WaveGroup], program: Program) -> dict[str, str]:
    """Files by which GTKWave shows names instead of numbers, by file name."""
    files = {COMMANDS: _translation({command.index: command.name for command in program.commands}, 16)}
    for group in groups:
        for signal in (*group.ports, *group.inside):
            if named := group.enums.get(signal.name):
                files[_file(group, signal)] = _translation(named.values, named.width)
    return files


def gtkwave_save(signals: Sequence[WaveSignal], groups: Sequence[WaveGroup]) -> str:
    """A save file of GTKWave: where the machine is, then each unit's ports; its other signals are in a closed group.

    Paths in it are relative, so it belongs beside the waves, and GTKWave is started there.
    """
    text = io.StringIO()
    save = GTKWSave(text)
    save.dumpfile(VCD, abspath=False)
    save.treeopen(f"{TOP}.")
    for signal in signals:
        if signal.scopes == (TOP,):
            names = COMMANDS if signal.name == "command" else None
            save.trace(
                _gtkwave(signal), datafmt="dec" if signal.name in _DECIMAL else "hex", translate_filter_file=names
            )
    for group in groups:
        with save.group(group.unit):
            _trace(save, group, group.ports)
            if group.inside:
                with save.group(f"inside {group.unit}", closed=True):
                    _trace(save, group, group.inside)
    return text.getvalue()


def _trace(save: GTKWSave, group: WaveGroup, signals: Sequence[WaveSignal]) -> None:
    for signal in signals:
        names = _file(group, signal) if signal.name in group.enums else None
        save.trace(_gtkwave(signal), alias=signal.name, translate_filter_file=names)


def surfer_commands(signals: Sequence[WaveSignal], groups: Sequence[WaveGroup]) -> str:
    """A command file of Surfer: where the machine is, and each unit's ports."""
    lines = [f"variable_add {signal.path}" for signal in signals if signal.scopes == (TOP,)]
    for group in groups:
        lines.append(f"divider_add {group.unit}")
        lines += [f"variable_add {signal.path}" for signal in group.ports]
    return "\n".join([*lines, "zoom_fit", ""])


def _gtkwave(signal: WaveSignal) -> str:
    return signal.path + (f"[{signal.width - 1}:0]" if signal.width > 1 else "")


def _file(group: WaveGroup, signal: WaveSignal) -> str:
    return f"{group.unit}.{signal.name}.txt"


def _translation(values: Mapping[int, str], width: int) -> str:
    return make_translation_filter(sorted(values.items()), datafmt="hex", size=width) + "\n"
