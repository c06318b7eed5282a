"""Inside the simulator: play packed inputs cycle by cycle and keep the outputs of every cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cocotb.triggers import RisingEdge

from tessera.sim.bench.packing import Fields
from tests.helpers.port_bits import port_bits, port_values


async def replay(dut: Any, inputs: Mapping[str, Fields], outputs: Sequence[str], *, extra: int = 0) -> dict[str, Any]:
    """Drive ``inputs`` (one entry a cycle; port names) and read ``outputs`` in the cycle of each entry.

    Entry i of an output is what the port shows while entry i of the inputs is driven; ``extra`` more cycles follow, in
    which the last inputs stay.
    """
    bits = {name: port_bits(name, fields) for name, fields in inputs.items()}
    drivers = [(getattr(dut, name), values) for name, values in bits.items()]
    readers = [(getattr(dut, name), []) for name in outputs]
    cycles = len(next(iter(bits.values())))
    for cycle in range(cycles + extra):
        if cycle < cycles:
            for handle, values in drivers:
                handle.value = values[cycle]
        await RisingEdge(dut.clk)
        for handle, seen in readers:
            seen.append(int(handle.value))
    return {name: port_values(name, seen) for name, (_, seen) in zip(outputs, readers, strict=True)}
