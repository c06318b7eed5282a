"""Requests over a transport, each answered exactly once, whatever the line does to them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from tessera.hw.protocol import PAYLOAD_BYTES, READ_WINDOW, WRITE_WINDOW, Operation, Reply, ReplyParser, Request, Status
from tessera.sw.driver.errors import DriverError, LinkLost, NoAnswer, RequestRefused
from tessera.sw.driver.transport import Transport

ANSWER_SECONDS = 0.3
"""How long to wait for the next reply, beside the time of its frames: much more than a device's time-out and USB."""
ATTEMPTS = 6
"""How often a request is sent before the link is given up."""
_AGAIN = (Status.BAD_CRC, Status.BAD_LENGTH, Status.BAD_OPERATION)
"""Also said of a request that was right when it left."""


@dataclass
class _Pending:
    """A request that is on its way."""

    request: Request
    number: int
    attempts: int = 0


class Link:
    """The host's end of the protocol.

    Several requests are on their way at a time; one that is not answered, or arrived broken, is sent again. Writes of
    registers go one by one, so that the device can tell one sent again from a new one.

    Parameters
    ----------
    transport:
        The line.
    answer_seconds:
        How long to wait for the next reply before everything unanswered is sent again.

    Members
    -------
    resent:
        Requests that had to be sent again.
    """

    def __init__(self, transport: Transport, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.transport, self._answer_seconds = transport, answer_seconds
        self._parser, self._sequence = ReplyParser(), 0
        self._answered = False
        self.resent = 0

    def call(self, operation: Operation, address: int = 0, length: int = 0, payload: bytes = b"") -> bytes:
        """One request; returns the payload of its reply. Errors as of :meth:`exchange`."""
        return self.exchange([Request(0, operation, len(payload) or length, address, payload)])[0]

    def exchange(
        self, requests: Iterable[Request], on_reply: Callable[[Request], None] | None = None
    ) -> Sequence[bytes]:
        """Carry requests of one operation out; returns the payloads of their replies in order.

        Parameters
        ----------
        requests:
            Their sequence numbers are set here.
        on_reply:
            Called with each request that was answered.

        Raises
        ------
        LinkLost, NoAnswer
            No good reply after ``ATTEMPTS``; the latter if there never was one.
        RequestRefused
            The device will not, or cannot.
        """
        waiting = deque(requests)
        if not waiting:
            return []
        payloads: list[bytes] = [b""] * len(waiting)
        pending: dict[int, _Pending] = {}
        window, number = _window(waiting[0].operation), 0
        deadline = 0.0
        while waiting or pending:
            while waiting and len(pending) < window:
                request = replace(waiting.popleft(), sequence=self._sequence)
                pending[self._sequence] = _Pending(request, number)
                self._send(pending[self._sequence])
                self._sequence, number = (self._sequence + 1) % 256, number + 1
                deadline = time.monotonic() + self._answer_seconds
            content = self.transport.read(max(0.0, deadline - time.monotonic()))
            late = not content and time.monotonic() >= deadline
            for reply in self._parser.silence() if late else self._parser.feed(content):
                entry = self._settle(reply, pending)
                if entry is not None:
                    payloads[entry.number] = reply.payload
                    late, deadline = False, time.monotonic() + self._answer_seconds
                    if on_reply is not None:
                        on_reply(entry.request)
            if late:
                for entry in pending.values():
                    self._send(entry)
                deadline = time.monotonic() + self._answer_seconds
        return payloads

    def _send(self, entry: _Pending) -> None:
        if entry.attempts == ATTEMPTS:
            raise self._given_up()
        self.resent += entry.attempts > 0
        entry.attempts += 1
        self.transport.write(entry.request.encode())

    def _settle(self, reply: Reply, pending: dict[int, _Pending]) -> _Pending | None:
        """What a reply answers; None for one that is late, meant for nobody, or says that something broke."""
        entry = pending.get(reply.sequence)
        if entry is None or reply.operation != entry.request.operation:
            return None
        if reply.status in _AGAIN:
            if entry.attempts == ATTEMPTS and self._answered:
                raise _refused(entry.request, reply.status)
            self._send(entry)
            return None
        if reply.status != Status.OK:
            raise _refused(entry.request, reply.status)
        if len(reply.encode()) != entry.request.reply_bytes:
            return None
        self._answered = True
        return pending.pop(reply.sequence)

    def _given_up(self) -> DriverError:
        name, seconds = self.transport.name, ATTEMPTS * self._answer_seconds
        if self._answered:
            return LinkLost(f"the device on {name} has not answered for {seconds:.0f} s; check cable and power")
        heard = f"{self._parser.discarded} bytes came that make no sense" if self._parser.discarded else "nothing came"
        return NoAnswer(
            f"no answer from {name}: {heard} in {seconds:.0f} s; is the board on, is Tessera's bitstream loaded, "
            "and is --baud the rate that it was built for?"
        )


def answer_seconds(baud: int) -> float:
    """How long to wait for a reply on a line of that speed: for both frames there is more than enough time."""
    return ANSWER_SECONDS + 4 * PAYLOAD_BYTES * 10 / baud


def _window(operation: int) -> int:
    """How many requests of a kind may be on their way."""
    if operation == Operation.WRITE_MEMORY:
        return WRITE_WINDOW
    return 1 if operation == Operation.WRITE_REGISTERS else READ_WINDOW


def _refused(request: Request, status: int) -> RequestRefused:
    operation = Operation(request.operation).name.lower().replace("_", " ")
    known = {status.value: status.name.lower().replace("_", " ") for status in Status}
    return RequestRefused(
        f"the device refused to {operation} at {request.address:#x}, {request.length} bytes: "
        f"{known.get(status, f'status {status}')}"
    )
