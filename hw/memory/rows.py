"""A large memory: rows of block RAMs with registers around them, so that it may lie all over a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import memory, wiring

from tessera.hw.isa import ADDRESS_WIDTH


@dataclass(frozen=True, kw_only=True)
class Port:
    """One port of the memory: a word's address, what of it is written, and whether it is read.

    Parameters
    ----------
    name:
        First part of its registers' names.
    address:
        Number of a word. Nothing is written beyond the last one; what is read there is undefined.
    columns, data:
        Columns to write, and the word. A port without them only reads.
    read:
        Whether the word is read. A port without it only writes.
    """

    name: str
    address: Value
    columns: Value | None = None
    data: Value | None = None
    read: Value | None = None


def large_memory(
    m: Module, platform: object, *, words: int, column: ShapeLike, columns: int, ports: Sequence[Port]
) -> list[list[Signal]]:
    """A memory of ``words`` words of ``columns`` columns; returns the columns that each reading port shows.

    ::

        address ─► register per row ─► block RAMs ─► register per row, 0 unless its row is read ─► or ─► register

    A platform with ``block_rows`` says how many words a row of its block RAMs holds. Registers next to the blocks, in
    front and behind, leave a cycle for the way there and another for the way back. Without such a platform, as for
    simulation, there is one row.

    Timing: data comes MEMORY_LATENCY cycles after the address and stays until the port reads again. Reads see all
    writes of earlier cycles. A column that is written and read at once is undefined.
    Resources: the words in block RAM; a word of registers per reading port and row, and per writing port.
    """
    row_words = words
    if hasattr(platform, "block_rows"):
        row_words = platform.block_rows(words, Shape.cast(column).width)
    rows = -(-words // row_words)
    found: list[list[list[Value]]] = [[[] for _ in range(columns)] for _ in ports]
    written = [_registered(m, port, columns) for port in ports]
    # Every row sees every address; only the row with the word acts on it.
    for row in range(rows):
        depth = min(row_words, words - row * row_words)
        suffix = f"_row_{row}" if rows > 1 else ""
        blocks = [memory.Memory(shape=column, depth=depth, init=[]) for _ in range(columns)]
        for index, block in enumerate(blocks):
            m.submodules[f"column_{index}{suffix}"] = block
        for port, data, shown in zip(ports, written, found, strict=True):
            name = f"{port.name}{suffix}"
            here = _in_row(port.address, words, row, row_words)
            address = Signal(range(max(2, row_words)), name=f"{name}_address", reset_less=True)
            # A row's registers stand near it: each loads only its own addresses, or synthesis would make them one.
            with m.If(here if rows > 1 else Const(1)):
                m.d.sync += address.eq(port.address)
            if port.columns is not None:
                chosen = Signal(columns, name=f"{name}_columns")
                m.d.sync += chosen.eq(Mux(here, port.columns, 0))
                for index, block in enumerate(blocks):
                    write = block.write_port()
                    m.d.comb += [
                        write.addr.eq(address),
                        write.en.eq(chosen[index]),
                        Value.cast(write.data).eq(data[index]),
                    ]
            if port.read is not None:
                _show(m, port.read, here if rows > 1 else Const(1), address, blocks, shown, name)
    return [_merge(m, port.name, column, shown) for port, shown in zip(ports, found, strict=True)]


def _in_row(address: Value, words: int, row: int, row_words: int) -> Value:
    """Whether there is such a word, and it is in the row."""
    if row_words >= words:
        return address < words
    here = address[row_words.bit_length() - 1 :] == row
    return here & (address < words) if words < (row + 1) * row_words else here


def report_beyond(m: Module, error: wiring.PureInterface, words: int, *uses: tuple[Value, Value]) -> None:
    """Report an address beyond the last word, ``BEYOND_LATENCY`` cycles after its use; of several the first.

    Parameters
    ----------
    error:
        Strobe of an address.
    uses:
        Whether an address is used, and the address.
    """
    used, addresses = Signal(len(uses)), [Signal(ADDRESS_WIDTH, name=f"used_{index}") for index in range(len(uses))]
    # The comparisons take a cycle of their own, because the addresses come from afar.
    m.d.sync += [used.eq(Cat(valid for valid, _ in uses)), error.valid.eq(0)]
    for index, (_, address) in reversed(list(enumerate(uses))):
        m.d.sync += addresses[index].eq(address)
        with m.If(used[index] & (addresses[index] >= words)):
            m.d.sync += [error.valid.eq(1), error.payload.eq(addresses[index])]


def _registered(m: Module, port: Port, columns: int) -> list[Signal]:
    """The word to write, a cycle later."""
    if port.data is None:
        return []
    width = len(port.data) // columns
    registers = [Signal(width, name=f"{port.name}_data_{index}", reset_less=True) for index in range(columns)]
    m.d.sync += Cat(registers).eq(port.data)
    return registers


def _show(
    m: Module,
    read: Value,
    here: Value,
    address: Signal,
    blocks: Sequence[memory.Memory],
    shown: list[list[Value]],
    name: str,
) -> None:
    """Read a row: a register behind each of its blocks, 0 if the port's last word was in another row."""
    enable, taken, hides = (
        Signal(name=f"{name}_enable"),
        Signal(name=f"{name}_taken"),
        Signal(name=f"{name}_hides", init=1),
    )
    # A row hides its old word once another row is read, so that the rows' words can be combined without a multiplexer.
    m.d.sync += [enable.eq(read & here), taken.eq(read)]
    with m.If(taken):
        m.d.sync += hides.eq(~enable)
    for block, values in zip(blocks, shown, strict=True):
        port = block.read_port()
        m.d.comb += [port.addr.eq(address), port.en.eq(enable)]
        value = Signal(len(Value.cast(port.data)), name=f"{name}_behind_{len(values)}", reset_less=True)
        m.d.sync += value.eq(Mux(hides, 0, port.data))
        values.append(value)


def _merge(m: Module, name: str, column: ShapeLike, shown: list[list[Value]]) -> list[Signal]:
    """Combine the rows of a port: one of them shows the word, all others show zeros."""
    columns = []
    for index, values in enumerate(shown):
        if not values:
            return []
        merged = Signal(column, name=f"{name}_column_{index}", reset_less=True)
        total: Value = values[0]
        for value in values[1:]:
            total = total | value
        m.d.sync += Value.cast(merged).eq(total)
        columns.append(merged)
    return columns
