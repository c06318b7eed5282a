"""The machine as one Verilog file: a top module with standard buses around what Amaranth makes of the design."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tessera.common.tools import git_id
from tessera.hw.accelerator import Accelerator
from tessera.hw.config import AcceleratorConfig
from tessera.sim.verilator.verilog import export_cached
from tessera.sw.export.axi import BusProperties, control_bus, memory_bus
from tessera.sw.export.ports import CorePort, CorePorts, core_ports
from tessera.sw.export.templates import fill

_CHECK = re.compile(
    r"^(?P<indent> *)if \(!(?P<condition>[^\n]*)\)\n +\$write\((?P<message>[^\n]*)\);\n +assert \((?P=condition)\);\n",
    re.MULTILINE,
)
_CONSTANT = re.compile(r"^  always @\*\n +(?P<statement>[^\n]* = \d+'[bdh][0-9a-f]+;)\n", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class PortLine:
    """One port in the header of the top module.

    Parameters
    ----------
    port:
        The port.
    attributes:
        Attributes by which Vivado finds clock, reset, interrupt and buses; other tools skip them.
    """

    port: CorePort
    attributes: dict[str, str]


def top_name(config: AcceleratorConfig) -> str:
    """Name of the exported module, and of its file without the suffix."""
    return f"tessera_{re.sub(r'[^0-9A-Za-z]', '_', config.name)}"


def core_verilog(config: AcceleratorConfig) -> str:
    """The text of the file: the top module, then everything inside it. It needs Verilog-2001 alone."""
    top, ports = top_name(config), core_ports(config)
    machine = f"{top}_accelerator"
    design = export_cached(lambda: Accelerator(config), name=machine, key=config.to_dict())
    wrapper = fill(
        "top.v", top=top, machine=machine, config=config, ports=ports, lines=_port_lines(config, ports), git=git_id()
    )
    return wrapper + portable(design.text)


def portable(text: str) -> str:
    """Amaranth's Verilog in words that every tool knows.

    Assertions become messages that stop a simulation, because ``assert`` is SystemVerilog. A process that assigns a
    constant has nothing to wait for, so simulators would never run it: it becomes an initial value.
    """

    def stop(found: re.Match[str]) -> str:
        indent, condition = found["indent"], found["condition"]
        return (
            f"`ifndef SYNTHESIS\n{indent}if (!{condition}) begin\n{indent}  $display({found['message']});\n"
            f"{indent}  $stop;\n{indent}end\n`endif\n"
        )

    return _CONSTANT.sub(r"  initial \g<statement>\n", _CHECK.sub(stop, text))


def _port_lines(config: AcceleratorConfig, ports: CorePorts) -> list[PortLine]:
    buses = {bus.prefix: bus for bus in (control_bus(), memory_bus(config))}
    settings = {
        "clk": ("clock:1.0 clk CLK", f"ASSOCIATED_BUSIF {':'.join(buses)}, ASSOCIATED_RESET rst"),
        "rst": ("reset:1.0 rst RST", "POLARITY ACTIVE_HIGH"),
        "irq": ("interrupt:1.0 irq INTERRUPT", "SENSITIVITY LEVEL_HIGH"),
    }
    lines, seen = [], set()
    for port in ports.ports:
        attributes = {}
        if port.bus:
            attributes["X_INTERFACE_INFO"] = f"xilinx.com:interface:aximm:1.0 {port.bus} {port.wire.upper()}"
            setting = _bus_setting(buses[port.bus])
        else:
            signal, setting = settings[port.name]
            attributes["X_INTERFACE_INFO"] = f"xilinx.com:signal:{signal}"
        group = port.bus or port.name
        if group not in seen:
            attributes["X_INTERFACE_PARAMETER"] = f"XIL_INTERFACENAME {group}, {setting}"
        seen.add(group)
        lines.append(PortLine(port=port, attributes=attributes))
    return lines


def _bus_setting(bus: BusProperties) -> str:
    return ", ".join(f"{name} {value}" for name, value in bus.vivado.items())
