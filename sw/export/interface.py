"""``tessera.json``: everything that a program must know of the exported machine, with a digest of its interface."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tessera.common.digest import digest
from tessera.hw.config import AcceleratorConfig
from tessera.hw.control.control import INTERFACE_VERSION
from tessera.hw.protocol import configuration_digest
from tessera.sw.export.axi import control_bus, memory_bus
from tessera.sw.export.frame import ExpectedOutput, ExportedFrame
from tessera.sw.export.ports import PORTS_VERSION, CorePort, core_ports
from tessera.sw.export.registers import BIT_FIELDS, fixed_value, register_rows
from tessera.sw.export.verilog import top_name


def interface_description(config: AcceleratorConfig) -> dict[str, Any]:
    """Ports, buses and registers of a build."""
    ports = [_port(port) for port in core_ports(config).ports]
    registers = [
        {
            "name": name,
            "offset": register.offset,
            "access": register.access.value,
            "width": register.width,
            "meaning": register.doc,
            "value": fixed_value(name, config),
            "fields": [
                {"name": part.name, "low": part.low, "width": part.width, "meaning": part.doc}
                for part in BIT_FIELDS.get(name, ())
            ],
        }
        for name, register in register_rows()
    ]
    buses = {bus.prefix: bus.properties for bus in (control_bus(), memory_bus(config))}
    return {
        "ports_version": PORTS_VERSION,
        "registers_version": INTERFACE_VERSION,
        "digest": digest(_bare(ports), buses, _bare(registers)),
        "clock": {"port": "clk", "edge": "rising"},
        "reset": {"port": "rst", "active": "high", "synchronous": True},
        "interrupt": {"port": "irq", "active": "high", "kind": "level"},
        "buses": buses,
        "ports": ports,
        "registers": registers,
    }


def core_description(frame: ExportedFrame) -> dict[str, Any]:
    """The content of ``tessera.json``."""
    program, config = frame.prepared.program, frame.prepared.config
    return {
        "top": top_name(config),
        "interface": interface_description(config),
        "configuration": config.to_dict(),
        "configuration_digest": configuration_digest(config).hex(),
        "frame": {
            "model": frame.prepared.label,
            "picture": frame.picture.source,
            "program_digest": program.digest,
            "memory_map": asdict(program.map),
            "tasks": [_task(output) for output in frame.outputs],
        },
    }


def _port(port: CorePort) -> dict[str, Any]:
    return {name: value for name, value in asdict(port).items() if value not in ("", None, False)}


def _bare(value: Any) -> Any:
    """The same without sentences, which may be put in other words."""
    if isinstance(value, list):
        return [_bare(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _bare(entry) for name, entry in value.items() if name != "meaning"}
    return value


def _task(output: ExpectedOutput) -> dict[str, Any]:
    return {
        "name": output.task,
        "registers": output.registers,
        "output": {
            "rows": output.rows,
            "channels": output.channels,
            "row_bytes": output.row_bytes,
            "element": "int32, little-endian",
            "scale": output.scale,
        },
        "predicted_cycles": output.predicted_cycles,
    }
