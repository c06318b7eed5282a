"""When the weight stream delivers: blocks in program order through beat buffer, bank buffers and parameter ring."""

from __future__ import annotations

from collections import deque

from tessera.hw.blocks.gearbox import Gearbox
from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.bus.bursts import BurstSplitter
from tessera.hw.bus.prefetch import Prefetcher
from tessera.hw.bus.read_master import ReadMaster
from tessera.hw.config import AcceleratorConfig
from tessera.hw.stream.chunk_writer import ChunkWriter
from tessera.hw.stream.weight_stream import WeightStream
from tessera.sw.cycles.bus import Bus

ARRIVED = ReadMaster.RESPONSE_LATENCY + Prefetcher.LATENCY + RegisterSlice.LATENCY + Gearbox.LATENCY
"""From a chunk's last beat at the bus to its being taken by the writer."""
WALK = 3
"""From a block's being taken to its first chunk, and from a block's last chunk to the next one's first."""
DELIVERED = ChunkWriter.LATENCY + RegisterSlice.LATENCY + 1
"""From the last chunk's being taken to the pulse that says so: ``tile_filled`` or ``done``."""
SETTLED = 2
"""From a reporting block's ``done`` to the next block's being taken."""
QUANTUM = 256
"""Beats worked out at once: an eighth or a quarter of any preset's beat buffer."""


class WeightStreamModel:
    """Walks the stream; every method works out the next piece of it and returns when that is delivered."""

    def __init__(self, config: AcceleratorConfig, bus: Bus) -> None:
        self._config, self._bus = config, bus
        self.beats_a_chunk = config.chunk_bytes // config.memory_bytes
        # Gearbox and writer hold a chunk each beside the buffer.
        self._depth = config.stream_beats + 2 * self.beats_a_chunk
        self._burst = min(WeightStream.BURST_BEATS, config.stream_beats // 4)
        self._asked_for = 0.0  # request of the current block
        self._last_request = 0.0  # last burst so far
        self._taken = 0.0  # last chunk so far
        self._walking = 0.0  # when the walker can take the next chunk
        self._begun: list[float] = []
        self._ahead: deque[tuple[int, float]] = deque()  # beats, and when the last of them came
        self._ahead_beats = 0
        # Points of the curve "beats that have left the buffer over time", and where its readers are.
        self._beats, self._times = [0], [0.0]
        self._near, self._far = 0, 0
        self._sets, self._released, self._release = 0, 0, 0
        self._releases: list[tuple[float, int]] = []  # times, and sets given back until then

    def accept(self, job: float) -> float:
        """A block is offered at ``job``; returns when it is accepted: not before the last one was asked for in full."""
        blocks = len(self._begun)
        if blocks >= WeightStream.JOBS_AHEAD:
            job = max(job, self._begun[blocks - WeightStream.JOBS_AHEAD] + 1)
        self._asked_for = max(job, self._last_request)
        return self._asked_for

    def begin(self, permit: float = 0.0) -> float:
        """The walker takes the accepted block, no earlier than ``permit``; returns when it can tag the first chunk."""
        taken = max(self._walking, self._asked_for + 1, permit)
        self._begun.append(taken)
        self._walking = taken + WALK - 1
        return self._walking

    def chunks(self, count: int, earliest: float = 0.0, cycles: float = 1.0) -> float:
        """``count`` chunks from ``earliest`` on, at least ``cycles`` each; returns when the last is taken."""
        cycles = max(cycles, self.beats_a_chunk)  # the gearbox takes a beat a cycle
        time = max(self._walking, earliest)
        size = self._burst if self._bus.pixels is not None else QUANTUM
        most = max(1, size // self.beats_a_chunk)
        while count > 0:
            part = min(count, most)
            beats = part * self.beats_a_chunk
            base = self._beats[-1]
            arrived = (self._come(beats) if self._ahead else self._ask(base, beats)) + ARRIVED
            start = max(time, arrived - (beats - self.beats_a_chunk))
            self._taken = max(time + (part - 1) * cycles, arrived)
            self._point(base, max(self._times[-1], start - cycles))
            self._point(base + beats, self._taken)
            time = self._taken + cycles
            count -= part
        self._walking = time
        return self._taken

    def _ask(self, base: int, beats: int) -> float:
        """Ask for beats from number ``base`` on, as room comes; returns when the last comes."""
        first = max(self._asked_for, self._left(base + min(beats, self._burst) - self._depth, near=False))
        self._last_request = max(self._asked_for, self._left(base + beats - self._depth, near=True))
        requests = (first + BurstSplitter.LATENCY, self._last_request + BurstSplitter.LATENCY)
        return self._bus.read(*requests, beats, self._burst)

    def read_ahead(self, job: float, chunks: int) -> bool:
        """Ask for a block's next chunks before they are walked, as far as there is room; whether all of them had."""
        beats = min(chunks * self.beats_a_chunk, self._depth - self._ahead_beats)
        wanted = chunks * self.beats_a_chunk
        request = max(job, self._last_request) + BurstSplitter.LATENCY
        while beats > 0:
            part = min(beats, self._burst)
            self._ahead.append((part, self._bus.read(request, request, part, self._burst)))
            self._ahead_beats += part
            wanted -= part
            beats -= part
        return wanted == 0

    def _come(self, beats: int) -> float:
        """When the last of so many beats comes, which have been asked for ahead, or the rest of them now."""
        arrived, wanted = 0.0, beats
        while wanted and self._ahead:
            part, time = self._ahead.popleft()
            taken = min(part, wanted)
            if taken < part:
                self._ahead.appendleft((part - taken, time))
            arrived = time - (part - taken)
            wanted -= taken
            self._ahead_beats -= taken
        if wanted:
            arrived = self._ask(self._beats[-1] + beats - wanted, wanted)
        return arrived

    def end(self, *, reports: bool = False) -> float:
        """The block is over; returns the pulse ``done`` of one that reports."""
        if reports:
            self._walking = self._taken + DELIVERED + SETTLED
            return self._taken + DELIVERED
        self._walking = self._taken + 1
        return self._taken

    def parameters(self, sets: int) -> float:
        """The parameter sets of a job; returns when the ring has them all."""
        config = self._config
        total = -(-sets // config.entries_per_chunk)
        while total > 0:
            part = min(total, max(1, QUANTUM // self.beats_a_chunk))
            self._sets += part * config.entries_per_chunk
            self.chunks(part, self._room(self._sets - config.parameter_entries))
            total -= part
        return self._taken + DELIVERED

    def release(self, time: float, sets: int) -> None:
        """A job gave its parameter sets back."""
        self._released += -(-sets // self._config.entries_per_chunk) * self._config.entries_per_chunk
        self._releases.append((time, self._released))

    def _room(self, sets: int) -> float:
        """When so many sets have been given back."""
        if sets <= 0:
            return 0.0
        while self._release < len(self._releases) - 1 and self._releases[self._release][1] < sets:
            self._release += 1
        return self._releases[self._release][0] + 1 if self._releases else 0.0

    def _point(self, beats: int, time: float) -> None:
        if beats == self._beats[-1]:
            self._times[-1] = time
        else:
            self._beats.append(beats)
            self._times.append(time)

    def _left(self, beat: int, *, near: bool) -> float:
        """When so many beats had left the buffer; each of the two readers only goes forward."""
        if beat <= 0:
            return 0.0
        beats, times = self._beats, self._times
        index = self._near if near else self._far
        while beats[index + 1] < beat:
            index += 1
        if near:
            self._near = index
        else:
            self._far = index
        share = (beat - beats[index]) / (beats[index + 1] - beats[index])
        return times[index] + share * (times[index + 1] - times[index]) + Prefetcher.RETURN_LATENCY
