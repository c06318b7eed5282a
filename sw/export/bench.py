"""The test bench of the exported machine: it needs no file but those beside it."""

from __future__ import annotations

from tessera.hw.control.control import IDENTITY, configuration_word
from tessera.hw.register_map import REGISTERS
from tessera.sw.export.frame import READ_LATENCY, ExportedFrame
from tessera.sw.export.ports import core_ports
from tessera.sw.export.templates import fill

WATCHDOG_CYCLES = 1_000_000
BOTH_INTERRUPTS = 3
"""Bits of ``interrupt_enable``: done, and error."""
LIMIT_FACTOR, LIMIT_CYCLES = 20, 1_000_000
"""A frame may take so many times its ideal cycles and beats, and so many cycles more."""
_CONTINUOUS = ("m_axi_arready", "m_axi_awready", "m_axi_wready")
"""Inputs of the machine that follow from signals, and are no registers of the bench."""
_USED = ("identity", "configuration", "control", "status", "task", "interrupt_clear", "error_code", "error_command")


def bench_text(frame: ExportedFrame, top: str) -> str:
    """The bench as SystemVerilog, for one program and one picture."""
    program = frame.prepared.program
    config = program.config
    settings = {
        **{name: value for name, value in program.registers(0).items() if name != "task"},
        "watchdog_limit": WATCHDOG_CYCLES,
        "interrupt_enable": BOTH_INTERRUPTS,
    }
    beats = program.map.weights_bytes // config.memory_bytes
    ideal = sum(command.ideal_cycles for command in program.commands)
    return fill(
        "tb.sv",
        top=top,
        config=config,
        model=program.model.name,
        ports=core_ports(config),
        continuous=_CONTINUOUS,
        depth=-(-len(frame.memory) // config.memory_bytes),
        latency=READ_LATENCY,
        limit=LIMIT_FACTOR * (ideal + beats) + LIMIT_CYCLES,
        output_address=program.map.output,
        offsets={name: register.offset for name, register in REGISTERS.items()},
        registers=(*_USED, "cycles", *settings),
        identity=IDENTITY,
        configuration=configuration_word(config),
        settings=settings,
        outputs=frame.outputs,
        expected_bytes=sum(len(output.content) for output in frame.outputs),
    )
