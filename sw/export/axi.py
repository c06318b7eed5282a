"""What a system must know of the two buses: which bursts come, how many at a time, in which order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tessera.hw.bus.bursts import PAGE_BYTES, longest_burst
from tessera.hw.bus.read_master import ReadMaster
from tessera.hw.bus.write_master import WriteMaster
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import BYTE_ADDRESS_WIDTH
from tessera.hw.protocol import REGISTER_SPACE
from tessera.sw.export.ports import CONTROL, ID_WIDTH, MEMORY


@dataclass(frozen=True, kw_only=True)
class BusProperties:
    """Properties of a bus.

    Parameters
    ----------
    prefix:
        Prefix of its ports.
    properties:
        What it does, in JSON's words.
    vivado:
        The same as parameters of a Vivado interface.
    """

    prefix: str
    properties: dict[str, Any]
    vivado: dict[str, Any] = field(default_factory=dict)


def control_bus() -> BusProperties:
    """The bus of the registers."""
    return BusProperties(
        prefix=CONTROL,
        properties={
            "protocol": "AXI4-Lite",
            "role": "subordinate (slave)",
            "data_width": 32,
            "address_width": (REGISTER_SPACE - 1).bit_length(),
            "bytes": REGISTER_SPACE,
            "byte_strobes": "honoured by read-write registers",
            "responses": "always OKAY; an unknown address reads 0 and keeps nothing",
            "order": "address and data of a write may come in any order",
        },
        vivado={"PROTOCOL": "AXI4LITE", "DATA_WIDTH": 32, "ADDR_WIDTH": (REGISTER_SPACE - 1).bit_length()},
    )


def memory_bus(config: AcceleratorConfig) -> BusProperties:
    """The bus of the memory."""
    bits, beats = 8 * config.memory_bytes, longest_burst(config)
    return BusProperties(
        prefix=MEMORY,
        properties={
            "protocol": "AXI4",
            "role": "manager (master)",
            "data_width": bits,
            "address_width": BYTE_ADDRESS_WIDTH,
            "id_width": ID_WIDTH,
            "ids": [0],
            "burst_kinds": ["INCR"],
            "longest_burst_beats": beats,
            "narrow_bursts": False,
            "unaligned_addresses": False,
            "page_bytes": PAGE_BYTES,
            "outstanding_reads": ReadMaster.OUTSTANDING,
            "outstanding_writes": WriteMaster.OUTSTANDING,
            "exclusive_access": False,
            "always_ready": ["bready", "rready"],
            "errors": "SLVERR and DECERR halt the machine with the address of the burst",
            "window": "no burst leaves the addresses from register window_base to before window_limit",
        },
        vivado={
            "PROTOCOL": "AXI4",
            "DATA_WIDTH": bits,
            "ADDR_WIDTH": BYTE_ADDRESS_WIDTH,
            "ID_WIDTH": ID_WIDTH,
            "MAX_BURST_LENGTH": beats,
            "NUM_READ_OUTSTANDING": ReadMaster.OUTSTANDING,
            "NUM_WRITE_OUTSTANDING": WriteMaster.OUTSTANDING,
            "SUPPORTS_NARROW_BURST": 0,
        },
    )
