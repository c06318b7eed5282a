"""Board: parts and settings of a board. A board is an entry of ``BOARDS``, never a program of its own."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.vendor import LatticeECP5Platform
from amaranth_boards.ecpix5 import ECPIX585Platform
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from tessera.common.expected import expect
from tessera.hw.boards.on_chip_memory import OnChipMemory
from tessera.hw.boards.system import CLIENTS
from tessera.hw.config import AcceleratorConfig
from tessera.hw.sdram.chip import ANY_CHIP, SdramChip
from tessera.hw.sdram.memory import SdramMemory
from tessera.hw.sdram.pins import EXTRA_LATENCY


@dataclass(frozen=True)
class Pin:
    """A pin by the platform's names: a resource, its number, and a part of it if it has several."""

    resource: str
    number: int = 0
    part: str | None = None


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board and what is built for it.

    Parameters
    ----------
    name, title:
        Name on the command line, and description in words.
    platform:
        Pins and device, from ``amaranth-boards``; its default clock feeds the PLL.
    preset:
        Configuration of the machine.
    clock_hz:
        Core clock in Hz.
    baud:
        Bits per second on the serial line.
    reset:
        Button that holds the machine in reset.
    lights:
        Pins of the lights, in the order of :func:`tessera.hw.interfaces.link.lights_layout`; may be fewer.
    memory:
        The SDRAM chip, or the size of a memory of block RAM in bytes.
    loader:
        Options by which openFPGALoader knows the board.

    Raises
    ------
    ValueError
        The platform is not that of an ECP5.
    """

    name: str
    title: str
    platform: type[LatticeECP5Platform]
    preset: str
    clock_hz: int
    baud: int
    reset: Pin
    lights: tuple[Pin, ...]
    memory: SdramChip | int
    loader: tuple[str, ...]

    def __post_init__(self) -> None:
        if not issubclass(self.platform, LatticeECP5Platform):
            raise ValueError(
                f"board {self.name} has the platform {self.platform.__name__}, which is no ECP5; boards are built with "
                "Yosys and nextpnr for an ECP5 of Lattice"
            )

    def memory_for(self, config: AcceleratorConfig, clock_hz: int) -> SdramMemory | OnChipMemory:
        """The memory of a system; ValueError if the chip or the bus cannot do that."""
        # The clock is an argument, because a slower build of the same board has other times of the chip in cycles.
        if isinstance(self.memory, int):
            return OnChipMemory(config, self.memory, readers=CLIENTS, writers=CLIENTS)
        timing = self.memory.timing(clock_hz)
        return SdramMemory(config, timing, readers=CLIENTS, writers=CLIENTS, extra_latency=EXTRA_LATENCY)


BOARDS = {
    board.name: board
    for board in (
        Board(
            name="ulx3s-85f",
            title="ULX3S with LFE5U-85F and 32 MB of SDRAM",
            platform=ULX3S_85F_Platform,
            preset="ecp5-85f",
            clock_hz=80_000_000,
            baud=3_000_000,
            reset=Pin("button_fire", 0),
            lights=tuple(Pin("led", number) for number in range(8)),
            memory=ANY_CHIP,
            loader=("--board", "ulx3s"),
        ),
        Board(
            name="ecpix5-85f",
            title="ECPIX-5 with LFE5UM5G-85F, memory on chip, its DDR3 unused",
            platform=ECPIX585Platform,
            preset="tiny",
            clock_hz=80_000_000,
            baud=3_000_000,
            reset=Pin("rst"),
            lights=tuple(Pin("rgb_led", number, colour) for colour in "gb" for number in range(4)),
            memory=128 * 1024,
            loader=("--board", "ecpix5"),
        ),
    )
}


def board(name: str) -> Board:
    """Look a board up by name; raises ValueError listing the known ones."""
    expect("board", name, str, f"the name of a board, one of: {', '.join(BOARDS)}")
    if name not in BOARDS:
        raise ValueError(f"unknown board '{name}'; choose one of: {', '.join(BOARDS)}")
    return BOARDS[name]
