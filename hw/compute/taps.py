"""TapWalk: where each tap of a convolution reads, by counters that add; no copy of the input is made."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.fields import same_fields
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import COORDINATE_WIDTH, kernel_layout, looked_up_layout
from tessera.hw.interfaces.jobs import engine_job_layout
from tessera.hw.interfaces.strobe import Work
from tessera.hw.isa import ADDRESS_WIDTH, COUNT_WIDTH

STRIDE_WIDTH = 8
"""Bits of the words of a position."""


@dataclass(frozen=True, kw_only=True)
class _Coordinate:
    """A line, or a position in a line.

    Members
    -------
    value:
        Register: the coordinate, which may lie outside the input.
    inside:
        Register: it lies inside.
    followed:
        Register: the next one lies inside, too, so that the address moves on with the coordinate.
    """

    value: Signal
    inside: Signal
    followed: Signal


def _coordinate(m: Module, name: str, *, following: Value, moves: Value, size: Value) -> _Coordinate:
    """A coordinate that takes the value ``following`` when it ``moves``. What is said of it is known at once."""
    value, inside, followed = (
        Signal(width, name=f"{name}{what}")
        for what, width in (("", COORDINATE_WIDTH), ("_inside", 1), ("_followed", 1))
    )
    new = following[:COORDINATE_WIDTH]
    # Coordinates before the input are negative, which as unsigned numbers lies far beyond it.
    with m.If(moves):
        m.d.sync += [value.eq(new), inside.eq(new < size), followed.eq(new + 1 < size)]
    return _Coordinate(value=value, inside=inside, followed=followed)


def _moved(by_line: Value, line: Value, position: Value, *, job: data.View, y: _Coordinate, x: _Coordinate) -> Value:
    """The address one line further than ``line``, or one position further than ``position``, as far as inside."""
    stride = Mux(by_line, Mux(y.followed, job.line_stride, 0), Mux(x.followed, job.broadcast_stride[:STRIDE_WIDTH], 0))
    return (Mux(by_line, line, position) + stride)[:ADDRESS_WIDTH]


class KernelWalk(wiring.Component):
    """Where the kernel lies in each step of a convolution: tile by tile, row by row of outputs.

    The kernel moves by one position or one line per cycle. The address follows only from one position inside the input
    to the next, so it stays within the input and there is no multiplication.

    Members
    -------
    work: In(Work(engine_job))
        The job. The parent holds the unit in reset while none is in progress; jobs but convolutions are passed over.
    kernels: Out(stream(kernel))
        A kernel for each step; without end, because only the user counts tiles.

    Timing: the first kernel comes ``LATENCY`` cycles after the reset ends, the next ones ``stride + 1`` cycles after
    the one before was taken: ``stride_x`` within a row of outputs, ``stride_y`` at its end; 2 cycles at a tile's end.
    """

    LATENCY = 1

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(
            {
                "work": In(Work(engine_job_layout(config))),
                "kernels": Out(stream.Signature(kernel_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Begin a tile, offer a kernel, move it."""
        m = Module()
        job, kernel = self.work.job, self.kernels.payload
        steps_left, columns_left = Signal(COUNT_WIDTH), Signal.like(job.output_columns)
        moves_left, by_line = Signal.like(job.stride_y), Signal()
        row = Signal(ADDRESS_WIDTH)
        begins, moves = Signal(), Signal()
        base = self._groups(m, begins)
        x_moves, y_moves = begins | moves, begins | (moves & by_line)
        next_x = Mux(begins | by_line, -job.pad_left, kernel.x + 1)
        x = _coordinate(m, "x", following=next_x, moves=x_moves, size=job.input_columns)
        y = _coordinate(m, "y", following=Mux(begins, -job.pad_top, kernel.y + 1), moves=y_moves, size=job.input_rows)
        target = _moved(by_line, row, kernel.address, job=job, y=y, x=x)
        m.d.comb += [kernel.x.eq(x.value), kernel.y.eq(y.value)]
        row_ends = columns_left == 1
        with m.FSM(name="state"):
            with m.State("BEGIN"):
                m.d.comb += begins.eq(job.convolution)
                m.d.sync += [
                    row.eq(base),
                    kernel.address.eq(base),
                    kernel.new_row.eq(0),
                    steps_left.eq(job.steps),
                    columns_left.eq(job.output_columns),
                ]
                with m.If(begins):
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.kernels.valid.eq(1)
                with m.If(self.kernels.ready):
                    m.d.sync += [
                        steps_left.eq(steps_left - 1),
                        columns_left.eq(Mux(row_ends, job.output_columns, columns_left - 1)),
                        by_line.eq(row_ends),
                        kernel.new_row.eq(row_ends),
                        moves_left.eq(Mux(row_ends, job.stride_y, job.stride_x)),
                    ]
                    m.next = "MOVE"
                    with m.If(steps_left == 1):
                        m.next = "BEGIN"
            with m.State("MOVE"):
                m.d.comb += moves.eq(1)
                m.d.sync += [kernel.address.eq(target), moves_left.eq(moves_left - 1)]
                with m.If(by_line):
                    m.d.sync += row.eq(target)
                with m.If(moves_left == 1):
                    m.next = "OFFER"
        return m

    def _groups(self, m: Module, begins: Signal) -> Value:
        """Scratchpad word of the input's first position, for the tile that begins."""
        job = self.work.job
        offset, tiles = Signal(ADDRESS_WIDTH), Signal.like(job.group_tiles, init=1)
        with m.If(begins):
            ends = tiles == job.group_tiles
            m.d.sync += [offset.eq(offset + Mux(ends, job.group_words, 0)), tiles.eq(Mux(ends, 1, tiles + 1))]
        return job.broadcast_base + offset


class TapWalk(wiring.Component):
    """Where each tap of a convolution reads, in the order of the reduction: lines of the kernel, then taps of a line.

    Members
    -------
    work: In(Work(engine_job))
        The job. The parent holds the unit in reset while none is in progress; jobs but convolutions are passed over.
    taps: Out(stream(looked_up))
        The taps of every step; weights are 0. Addresses lie within the input, those of padded taps too.

    Timing: one tap per cycle within a step; the first comes ``LATENCY`` cycles after the reset ends. The next step's
    kernel moves meanwhile, see :class:`KernelWalk`.
    """

    LATENCY = KernelWalk.LATENCY + 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "work": In(Work(engine_job_layout(config))),
                "taps": Out(stream.Signature(looked_up_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Take a kernel, then go through its taps."""
        m = Module()
        job, tap, taken, takes = self.work.job, self.taps.payload, Signal(), Signal()
        m.submodules.kernels = kernels = KernelWalk(self._config)
        kernel, offered = kernels.kernels.payload, kernels.kernels.valid
        connect(m, flipped(self.work), kernels.work)
        lines_left, taps_left = Signal.like(job.taps_y), Signal.like(job.taps_x)
        line, first_x, line_ends = Signal(ADDRESS_WIDTH), Signal(COORDINATE_WIDTH), taps_left == 1
        m.d.comb += [
            taken.eq(self.taps.valid & self.taps.ready),
            takes.eq(~self.taps.valid | (taken & line_ends & (lines_left == 1))),
            kernels.kernels.ready.eq(takes),
        ]
        next_x, next_y = Signal(COORDINATE_WIDTH), Signal(COORDINATE_WIDTH)
        x = _coordinate(m, "x", following=next_x, moves=takes | taken, size=job.input_columns)
        y = _coordinate(m, "y", following=next_y, moves=takes | (taken & line_ends), size=job.input_rows)
        m.d.comb += [
            next_x.eq(Mux(takes, kernel.x, Mux(line_ends, first_x, x.value + 1))),
            next_y.eq(Mux(takes, kernel.y, y.value + 1)),
            tap.padded.eq(~(job.clamp | (x.inside & y.inside))),
        ]
        target = _moved(line_ends, line, tap.offset, job=job, y=y, x=x)
        with m.If(takes):
            m.d.sync += [
                self.taps.valid.eq(offered),
                tap.offset.eq(kernel.address),
                line.eq(kernel.address),
                first_x.eq(kernel.x),
                lines_left.eq(job.taps_y),
                taps_left.eq(job.taps_x),
                *same_fields(tap, kernel, "new_row"),
            ]
        with m.Elif(taken):
            m.d.sync += [tap.offset.eq(target), taps_left.eq(Mux(line_ends, job.taps_x, taps_left - 1))]
            with m.If(line_ends):
                m.d.sync += [line.eq(target), lines_left.eq(lines_left - 1)]
        return m
