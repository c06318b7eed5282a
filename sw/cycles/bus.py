"""When memory answers: the one read port that commands, pixels and the weight stream share, in order."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from tessera.hw.bus.read_master import ReadMaster
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import COMMAND_BYTES

BURST_ISSUED = ReadMaster.REQUEST_LATENCY
"""From a client's request to the address channel."""
CHECKED = 2
"""From a burst's being chosen, which leaves its place to the next one, to the address channel."""
SLOT_FREED = 2
"""From a burst's last beat to the next burst on the address channel, when the queue of bursts was full."""
NEXT_FETCH = 2
"""From a command's last beat at the bus to the request for the next one."""
NEVER = float("inf")


class Client(Protocol):
    """Pixels: what asks for bursts beside the weight stream, and before it when both wait."""

    def next_request(self) -> float:
        """When its next burst can be asked for; NEVER when there is none."""

    def take(self) -> int:
        """Beats of that burst."""

    def answered(self, finish: float) -> None:
        """Its last beat came."""


class Bus:
    """Beats come back in the order of the requests, one a cycle, each burst no earlier than the latency allows.

    The weight stream asks in the order of the model's walk; commands and pixels are served when their requests come
    before the stream's, or when somebody must know.
    """

    def __init__(self, config: AcceleratorConfig, read_latency: int) -> None:
        self._latency = read_latency
        self._fetch_beats = COMMAND_BYTES // config.memory_bytes
        self._finish = 0.0
        self._chosen = 0.0  # the next burst is chosen when the last one goes to the address channel
        self._slots: deque[float] = deque([0.0] * ReadMaster.OUTSTANDING, ReadMaster.OUTSTANDING)
        self._alone: deque[float] = deque()  # answers to commands that later bursts have to make way for
        self._rooms: deque[float] = deque()  # when there is room for each command that has not been asked for
        self._fetched: list[float] = []
        self.pixels: Client | None = None

    def allow_fetch(self, room: float) -> None:
        """There is room for one more command."""
        self._rooms.append(room)

    def fetched(self, number: int) -> float:
        """When the last beat of a command comes."""
        while len(self._fetched) <= number:
            request = self._next_fetch()
            if self.pixels is not None:
                while self.pixels.next_request() < request:
                    self._serve_pixels(self.pixels)
            self._serve_fetch(request)
        return self._fetched[number]

    def read(self, first: float, last: float, beats: int, burst: int) -> float:
        """Last beat of ``beats`` for the stream.

        The first ``burst`` of them can be asked for at ``first``, the last ones at ``last``.
        """
        self._serve_others(first)
        finish = max(self._finish, self._issue(first) + self._latency - 1) + beats
        begin = finish - beats
        finish = max(finish, last + BURST_ISSUED + self._latency - 1 + min(beats, burst))
        while self._alone and self._alone[0] <= finish:
            finish += self._fetch_beats if self._alone.popleft() > begin else 0
        self._served(finish)
        return finish

    def finish_pixels(self) -> None:
        """Serve all pixels that are left, as the stream waits for them."""
        if self.pixels is not None:
            while self.pixels.next_request() != NEVER:
                self._serve_pixels(self.pixels)
        self.pixels = None

    def _serve_others(self, request: float) -> None:
        """Serve what is chosen before a burst of the stream that is asked for at ``request``."""
        while True:
            limit = max(request, self._chosen)
            fetch = self._next_fetch()
            pixels = self.pixels.next_request() if self.pixels is not None else NEVER
            if fetch <= max(min(limit, pixels), self._chosen) and fetch <= limit:
                self._serve_fetch(fetch)
            elif self.pixels is not None and pixels <= limit:
                self._serve_pixels(self.pixels)
            else:
                return

    def _next_fetch(self) -> float:
        if not self._rooms:
            return NEVER
        return max(self._rooms[0], self._fetched[-1] + NEXT_FETCH if self._fetched else 1.0)

    def _serve_fetch(self, request: float) -> None:
        """A command, whose answer may come long after those to the bursts that are known so far."""
        self._rooms.popleft()
        first = max(request + BURST_ISSUED, self._slots[0] + SLOT_FREED) + self._latency - 1
        finish = max(self._finish, first) + self._fetch_beats
        if first <= self._finish + self._fetch_beats:
            self._chosen = max(self._chosen, request)
            self._served(finish)
        else:
            # The stream's bursts around it are not known yet.
            self._alone.append(finish)
        self._fetched.append(finish)

    def _serve_pixels(self, pixels: Client) -> None:
        finish = max(self._finish, self._issue(pixels.next_request()) + self._latency - 1) + pixels.take()
        while self._alone and self._alone[0] <= finish:
            finish += self._fetch_beats if self._alone.popleft() > self._finish else 0
        self._served(finish)
        pixels.answered(finish)

    def _issue(self, request: float) -> float:
        """When a burst is on the address channel; then the next one is chosen."""
        first = max(request + BURST_ISSUED, self._slots[0] + SLOT_FREED)
        self._chosen = first - CHECKED
        return first

    def _served(self, finish: float) -> None:
        self._finish = finish
        self._slots.append(finish)
