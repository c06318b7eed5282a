"""Executor: requests to accesses and replies, one after the other."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces.link import BytePort, received_frame_layout, reply_header_layout
from hw.interfaces.strobe import Strobe
from hw.link.byte_buffer import ByteBuffer
from hw.link.frame_receiver import SLOTS
from hw.protocol import IDENTITY_BYTES, PAYLOAD_BYTES, REGISTER_SPACE, Identity, Operation, Status


class Executor(wiring.Component):
    """Takes requests, checks what they ask for, has it done, and replies.

    The frame executed last is remembered by sequence number and CRC: a write of registers that comes once more, because
    the host did not see the reply, gets the same reply and is not carried out again. Everything else may be repeated.

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the memory bus.
    identity:
        The answer to IDENTIFY.

    Members
    -------
    frame, release:
        Requests, and payload slots that are free again.
    write:
        Payloads of requests, as they arrive.
    registers, memory:
        Where accesses go.
    reply, payload:
        To the transmitter.
    """

    def __init__(self, config: AcceleratorConfig, identity: Identity) -> None:
        self._width, self._identity = config.memory_bytes, identity
        address = range(SLOTS * PAYLOAD_BYTES)
        super().__init__(
            {
                "frame": In(stream.Signature(received_frame_layout())),
                "release": Out(Strobe(1)),
                "write": In(Strobe(data.StructLayout({"address": address, "data": 8}))),
                "registers": Out(BytePort()),
                "memory": Out(BytePort()),
                "reply": Out(stream.Signature(reply_header_layout())),
                "payload": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Take a frame, check it, run it, reply."""
        m = Module()
        frame, on_memory, is_write = Signal(received_frame_layout()), Signal(), Signal()
        status, repeated = Signal(Status), Signal()
        identify = Signal()
        given, taken = self._buffers(m, on_memory)
        ports = {0: self.registers, 1: self.memory}
        done = Mux(on_memory, self.memory.done, self.registers.done)
        failed = Mux(on_memory, self.memory.failed, self.registers.failed)
        m.d.comb += [
            is_write.eq(frame.operation[0]),
            on_memory.eq((frame.operation >> 1) == (Operation.READ_MEMORY >> 1)),
            identify.eq(frame.operation == Operation.IDENTIFY),
            given.run.payload.first.eq(Cat(Const(0, exact_log2(PAYLOAD_BYTES)), frame.slot)),
            given.run.payload.count.eq(frame.length),
            self.release.payload.eq(frame.slot),
            self.reply.payload.sequence.eq(frame.sequence),
            self.reply.payload.operation.eq(frame.operation),
            self.reply.payload.status.eq(status),
        ]
        with m.If(status == Status.OK):
            length = Mux(identify, IDENTITY_BYTES, Mux(is_write, 0, frame.length))
            m.d.comb += self.reply.payload.length.eq(length)
        for port in ports.values():
            m.d.comb += [
                port.access.payload.write.eq(is_write),
                port.access.payload.address.eq(frame.address),
                port.access.payload.length.eq(frame.length),
            ]
        remember = self._memory_of_last(m, frame, repeated, failed)
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += self.frame.ready.eq(1)
                m.d.sync += frame.eq(self.frame.payload)
                with m.If(self.frame.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                self._check(m, frame, status)
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.comb += given.run.valid.eq(is_write)
                m.next = "REPLY"
                with m.If(status == Status.OK):
                    with m.If(identify):
                        m.d.comb += remember.forget.eq(1)
                    with m.Elif(repeated & (frame.operation == Operation.WRITE_REGISTERS)):
                        m.d.sync += status.eq(Mux(remember.failed, Status.BUS_ERROR, Status.OK))
                    with m.Else():
                        m.next = "START"
            with m.State("START"):
                for which, port in ports.items():
                    with m.If(on_memory == which):
                        m.d.comb += port.access.valid.eq(1)
                        with m.If(port.access.ready):
                            m.next = "RUN"
            with m.State("RUN"), m.If(done):
                m.d.comb += remember.executed.eq(1)
                with m.If(failed):
                    m.d.sync += status.eq(Status.BUS_ERROR)
                m.next = "REPLY"
            with m.State("REPLY"):
                m.d.comb += [
                    taken.run.valid.eq(1),
                    taken.run.payload.first.eq(Mux(identify, PAYLOAD_BYTES, 0)),
                    taken.run.payload.count.eq(self.reply.payload.length),
                ]
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.reply.valid.eq(1)
                with m.If(self.reply.ready):
                    m.d.comb += self.release.valid.eq(is_write & (frame.status == Status.OK))
                    m.next = "IDLE"
        return m

    def _buffers(self, m: Module, on_memory: Signal) -> tuple[ByteBuffer, ByteBuffer]:
        """Payloads of requests and of replies, between line and ports; the identity lies behind the latter."""
        identity = [0] * PAYLOAD_BYTES + list(self._identity.encode())
        m.submodules.given = given = ByteBuffer(SLOTS * PAYLOAD_BYTES)
        m.submodules.taken = taken = ByteBuffer(2 * PAYLOAD_BYTES, identity)
        place = Signal(range(PAYLOAD_BYTES))
        m.d.comb += [
            given.write.valid.eq(self.write.valid),
            given.write.payload.eq(self.write.payload),
            self.payload.valid.eq(taken.byte.valid),
            self.payload.payload.eq(taken.byte.payload),
            taken.byte.ready.eq(self.payload.ready),
            taken.write.payload.address.eq(place),
        ]
        with m.If(taken.write.valid):
            m.d.sync += place.eq(place + 1)
        with m.If(self.reply.valid):
            m.d.sync += place.eq(0)
        for which, port in ((0, self.registers), (1, self.memory)):
            m.d.comb += [
                port.given.valid.eq(given.byte.valid & (on_memory == which)),
                port.given.payload.eq(given.byte.payload),
                port.taken.ready.eq(1),
            ]
            with m.If(on_memory == which):
                m.d.comb += [
                    given.byte.ready.eq(port.given.ready),
                    taken.write.valid.eq(port.taken.valid),
                    taken.write.payload.data.eq(port.taken.payload),
                ]
        return given, taken

    def _check(self, m: Module, frame: data.View, status: Signal) -> None:
        """What speaks against carrying the request out."""
        word = self._width - 1
        beyond = Signal(33)
        m.d.comb += beyond.eq(frame.address + frame.length)
        registers = frame.operation[1:] == Operation.READ_REGISTERS >> 1
        memory = frame.operation[1:] == Operation.READ_MEMORY >> 1
        m.d.sync += status.eq(frame.status)
        with m.If(frame.status == Status.OK):
            with m.If(frame.operation == Operation.IDENTIFY):
                m.d.sync += status.eq(Status.OK)
            with m.Elif(~registers & ~memory):
                m.d.sync += status.eq(Status.BAD_OPERATION)
            with m.Elif((frame.length == 0) | (frame.length & Mux(memory, word, 3)).any()):
                m.d.sync += status.eq(Status.BAD_LENGTH)
            with m.Elif((frame.address & Mux(memory, word, 3)).any() | (registers & (beyond > REGISTER_SPACE))):
                m.d.sync += status.eq(Status.BAD_ADDRESS)
            with m.Elif(memory & (beyond > 1 << 32)):
                m.d.sync += status.eq(Status.BAD_ADDRESS)

    def _memory_of_last(self, m: Module, frame: data.View, repeated: Signal, failed: Value) -> _Last:
        """Remember the frame executed last; say, from a cycle after it was taken on, whether this is the same."""
        last = _Last()
        known, sequence, check = Signal(), Signal(8), Signal(32)
        m.d.sync += repeated.eq(known & (frame.sequence == sequence) & (frame.check == check))
        with m.If(last.forget):
            m.d.sync += known.eq(0)
        with m.If(last.executed):
            m.d.sync += [known.eq(1), sequence.eq(frame.sequence), check.eq(frame.check), last.failed.eq(failed)]
        return last


class _Last:
    """Signals about the frame executed last: events in, and how it went."""

    def __init__(self) -> None:
        self.executed = Signal()
        self.forget = Signal()
        self.failed = Signal(name="last_failed")
