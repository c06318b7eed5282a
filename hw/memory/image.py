"""LOAD_IMAGE: a planar image in memory to patch rows in the scratchpad."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.bus.bursts import beat_run, longest_burst
from hw.bus.prefetch import Prefetcher
from hw.config import AcceleratorConfig
from hw.interfaces import Strobe, read_request, scratch_write

COLOURS = 3


def image_job(config: AcceleratorConfig) -> data.StructLayout:
    """Fields of LOAD_IMAGE, and the image's address."""
    return data.StructLayout(
        {
            "destination_base": 16,
            "destination_stride": 16,
            "patch": 8,
            "grid_rows": 16,
            "grid_columns": 16,
            "row_bytes": 32,
            "plane_bytes": 32,
            "image_base": 32,
        }
    )


def piece_tag(config: AcceleratorConfig) -> data.StructLayout:
    """What the packer must know of a piece of ``patch`` pixels: its place in its first beat, and what it ends."""
    return data.StructLayout({"offset": range(max(2, config.memory_bytes)), "patch_last": 1, "image_last": 1})


class PatchWalker(wiring.Component):
    """Addresses of an image's pieces (``patch`` pixels of one row and colour), patch by patch.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    start, job:
        Begin with this job, stable until the last piece was taken.
    piece:
        ``run`` of beats that holds the piece (:func:`hw.bus.bursts.beat_run`) and its ``tag``. Order: grid row, grid
        column, colour, pixel row.

    Timing: one piece a cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        piece = data.StructLayout({"run": beat_run(), "tag": piece_tag(config)})
        super().__init__(
            {
                "start": In(1),
                "job": In(image_job(config)),
                "piece": Out(stream.Signature(piece)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep the addresses at which each loop began; step the innermost that is not at its end."""
        m = Module()
        job, shift = self.job, exact_log2(self._config.memory_bytes)
        address, plane, patch, next_band = (Signal(32, name=n) for n in ("address", "plane", "patch", "next_band"))
        line, colour, column, row = Signal(8), Signal(range(COLOURS)), Signal(16), Signal(16)
        active = Signal()
        ends = {
            "line": line + 1 == job.patch,
            "colour": colour == COLOURS - 1,
            "column": column + 1 == job.grid_columns,
            "row": row + 1 == job.grid_rows,
        }
        patch_last = Signal()
        image_last = Signal()
        m.d.comb += [
            patch_last.eq(ends["line"] & ends["colour"]),
            image_last.eq(patch_last & ends["column"] & ends["row"]),
            self.piece.valid.eq(active),
            self.piece.payload.run.address.eq(address),
            self.piece.payload.run.beats_minus_one.eq((job.patch - 1) >> shift),
            self.piece.payload.tag.offset.eq(address[:shift]),
            self.piece.payload.tag.patch_last.eq(patch_last),
            self.piece.payload.tag.image_last.eq(image_last),
        ]
        below = Signal(32)
        after = Signal(32)
        m.d.comb += below.eq(address + job.row_bytes)
        with m.If(~ends["line"]):
            m.d.comb += after.eq(below)
        with m.Elif(~ends["colour"]):
            m.d.comb += after.eq(plane + job.plane_bytes)
        with m.Elif(~ends["column"]):
            m.d.comb += after.eq(patch + job.patch)
        with m.Else():
            m.d.comb += after.eq(next_band)
        with m.If(self.start):
            m.d.sync += [address.eq(job.image_base), plane.eq(job.image_base), patch.eq(job.image_base), active.eq(1)]
        with m.Elif(self.piece.valid & self.piece.ready):
            m.d.sync += [address.eq(after), line.eq(Mux(ends["line"], 0, line + 1)), active.eq(~image_last)]
            with m.If(ends["line"]):
                m.d.sync += [plane.eq(after), colour.eq(Mux(ends["colour"], 0, colour + 1))]
                with m.If((colour == 0) & (column == 0)):
                    m.d.sync += next_band.eq(below)
            with m.If(patch_last):
                m.d.sync += [patch.eq(after), column.eq(Mux(ends["column"], 0, column + 1))]
                with m.If(ends["column"]):
                    m.d.sync += row.eq(Mux(ends["row"], 0, row + 1))
        return m


class PatchPacker(wiring.Component):
    """Packs the pieces of each patch into scratchpad words, pixels zero-extended, the tail of the last word zero.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    start, job:
        Begin with this job, stable until ``done``.
    tag:
        One for each piece; taken with its last pixel.
    beat:
        The beats of the pieces, in order.
    scratch_write:
        Words of patch n at ``destination_base + n * destination_stride``.
    done:
        Pulse, one cycle after the image's last word was written.

    Timing: ``min(patch, memory_bytes, T)`` pixels a cycle; a word is written 2 cycles after its last pixel came.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "job": In(image_job(config)),
                "tag": In(stream.Signature(piece_tag(config))),
                "beat": In(stream.Signature(8 * config.memory_bytes)),
                "scratch_write": Out(Strobe(scratch_write(config))),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Pick the next pixels out of the beat, then place them into the word."""
        m = Module()
        config = self._config
        most = min(config.memory_bytes, config.lanes)
        pixels = data.ArrayLayout(8, most)
        picked = Signal(data.StructLayout({"pixels": pixels, "patch_last": 1, "image_last": 1}))
        picked_valid = Signal()
        step = Signal(range(most + 1))
        m.d.comb += step.eq(Mux(self.job.patch < most, self.job.patch, most))
        self._pick(m, step, picked, picked_valid)
        self._place(m, step, picked, picked_valid)
        return m

    def _pick(self, m: Module, step: Signal, picked: data.View, valid: Signal) -> None:
        """Take ``step`` pixels at a time from the beat, starting where the piece starts."""
        width = self._config.memory_bytes
        done_before = Signal(8)
        offset = Signal(range(max(2, width)))
        piece_last, beat_last, takes = Signal(), Signal(), Signal()
        m.d.comb += [
            takes.eq(self.beat.valid & self.tag.valid),
            offset.eq((self.tag.payload.offset + done_before) & (width - 1)),
            piece_last.eq(done_before + step == self.job.patch),
            beat_last.eq(piece_last | (((done_before + step) & (width - 1)) == 0)),
            self.beat.ready.eq(takes & beat_last),
            self.tag.ready.eq(takes & piece_last),
        ]
        m.d.sync += valid.eq(takes)
        with m.If(takes):
            m.d.sync += [
                done_before.eq(Mux(piece_last, 0, done_before + step)),
                picked.patch_last.eq(piece_last & self.tag.payload.patch_last),
                picked.image_last.eq(piece_last & self.tag.payload.image_last),
            ]
            for index, pixel in enumerate(picked.pixels):
                # Pixel `index` counts only when the step exceeds it; the offset is then a multiple of that power.
                grain = index.bit_length()
                aligned = Cat(self.beat.payload.word_select(i, 8) for i in range(index, width, 1 << grain))
                m.d.sync += pixel.eq(aligned.word_select(offset >> grain, 8))

    def _place(self, m: Module, step: Signal, picked: data.View, valid: Signal) -> None:
        """Put the pixels at the word's next lanes; write it when it is full or its patch ends."""
        config, write = self._config, self.scratch_write
        position = Signal(range(config.lanes))
        patch_base, address = Signal(16), Signal(16)
        finished, image_written = Signal(), Signal()
        m.d.comb += [
            finished.eq(picked.patch_last | (position + step == config.lanes)),
            write.payload.columns.eq(-1),
        ]
        m.d.sync += [
            write.valid.eq(valid & finished),
            image_written.eq(valid & picked.image_last),
            self.done.eq(image_written),
        ]
        for lane, target in enumerate(write.payload.data):
            source, hit = Signal(8, name=f"source_{lane}"), Signal(name=f"hit_{lane}")
            with m.Switch(step):
                for exponent in range(exact_log2(len(picked.pixels)) + 1):
                    with m.Case(1 << exponent):
                        m.d.comb += [
                            source.eq(picked.pixels[lane % (1 << exponent)]),
                            hit.eq(position >> exponent == lane >> exponent),
                        ]
            with m.If(valid & (hit | (position == 0))):
                m.d.sync += target.eq(Mux(hit, source, 0))
        next_patch = Signal(16)
        m.d.comb += next_patch.eq(patch_base + self.job.destination_stride)
        with m.If(self.start):
            m.d.sync += [patch_base.eq(self.job.destination_base), address.eq(self.job.destination_base)]
        with m.Elif(valid):
            m.d.sync += position.eq(Mux(finished, 0, position + step))
            with m.If(finished):
                m.d.sync += [write.payload.address.eq(address), address.eq(address + 1)]
            with m.If(picked.patch_last):
                m.d.sync += [patch_base.eq(next_patch), address.eq(next_patch)]


class ImageLoader(wiring.Component):
    """Loads a planar image of bytes, [colour][row][column], as rows of patches.

    Word ``destination_base + n * destination_stride + k / T``, lane ``k % T`` receives input
    ``k = (colour * patch + y) * patch + x`` of patch ``n = grid_row * grid_columns + grid_column``: the order of a
    flattened convolution kernel. Pixels are zero-extended; lanes after the last input of a patch's last word are zero.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    job:
        :func:`image_job`. Every piece of ``patch`` pixels (1 to 128, a power of two) lies at a multiple of
        min(patch, memory_bytes).
    request, response:
        Client port of the AXI read master, room reserved before asking. A piece smaller than a beat costs a beat.
    scratch_write:
        Whole words.
    done:
        Pulse, one cycle after the last word was written.

    Timing: ``min(patch, memory_bytes, T)`` pixels a cycle, at most one piece a cycle; ``BEATS_AHEAD`` beats under way
    hide the memory's latency.
    """

    BEATS_AHEAD = 128
    """Beats asked for and not yet packed; holds the largest patch's piece on the narrowest bus."""
    PIECES_AHEAD = 32
    """Pieces asked for and not yet packed."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(image_job(config))),
                "request": Out(stream.Signature(read_request(config))),
                "response": In(Strobe(8 * config.memory_bytes)),
                "scratch_write": Out(Strobe(scratch_write(config))),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walker and packer, with the beats and tags under way between them."""
        m = Module()
        config = self._config
        m.submodules.walker = walker = PatchWalker(config)
        m.submodules.packer = packer = PatchPacker(config)
        m.submodules.prefetcher = prefetcher = Prefetcher(
            config, depth=self.BEATS_AHEAD, burst_beats=longest_burst(config)
        )
        m.submodules.tags = tags = SyncFIFO(width=piece_tag(config).size, depth=self.PIECES_AHEAD)
        connect(m, prefetcher.request, flipped(self.request))
        connect(m, flipped(self.response), prefetcher.response)
        connect(m, prefetcher.beat, packer.beat)
        connect(m, packer.scratch_write, flipped(self.scratch_write))
        piece, run = walker.piece, prefetcher.run
        m.d.comb += [
            run.payload.eq(piece.payload.run),
            run.valid.eq(piece.valid & tags.w_rdy),
            tags.w_data.eq(piece.payload.tag),
            tags.w_en.eq(piece.valid & run.ready),
            piece.ready.eq(tags.w_rdy & run.ready),
            packer.tag.payload.eq(tags.r_data),
            packer.tag.valid.eq(tags.r_rdy),
            tags.r_en.eq(packer.tag.ready),
        ]
        job = Signal(image_job(config))
        m.d.comb += [walker.job.eq(job), packer.job.eq(job), self.done.eq(packer.done)]
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += self.job.ready.eq(1)
                m.d.sync += job.eq(self.job.payload)
                with m.If(self.job.valid):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += [walker.start.eq(1), packer.start.eq(1)]
                m.next = "RUN"
            with m.State("RUN"):
                with m.If(packer.done):
                    m.next = "IDLE"
        return m
