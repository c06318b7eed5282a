"""Executor: requests to accesses and replies, one after the other."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.jobs import hand_over
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.link import BytePort, payload_byte_layout, received_frame_layout, reply_header_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.link.byte_buffer import ByteBuffer
from tessera.hw.link.frame_receiver import SLOTS
from tessera.hw.protocol import IDENTITY_BYTES, PAYLOAD_BYTES, REGISTER_SPACE, Identity, Operation, Status


class Executor(wiring.Component):
    """Takes requests, checks them, has them carried out, and replies.

    The executor remembers the frame executed last by sequence number and CRC. If the host did not see the reply to a
    write of registers, it sends the frame again: then it gets the same reply, and the write is not carried out again.
    Every other request may be repeated.

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the memory bus.
    identity:
        Answer to IDENTIFY.

    Members
    -------
    frame, release:
        Requests, and payload slots that are free again.
    write:
        Payloads of requests, as they arrive.
    registers, memory:
        Ports that carry the accesses out.
    reply, payload:
        Replies for the transmitter.
    """

    def __init__(self, config: AcceleratorConfig, identity: Identity) -> None:
        self._width, self._identity = config.memory_bytes, identity
        super().__init__(
            {
                "frame": In(stream.Signature(received_frame_layout())),
                "release": Out(Strobe(1)),
                "write": In(Strobe(payload_byte_layout(SLOTS * PAYLOAD_BYTES))),
                "registers": Out(BytePort()),
                "memory": Out(BytePort()),
                "reply": Out(stream.Signature(reply_header_layout())),
                "payload": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Take a frame, check it, run it, reply."""
        m = Module()
        frame, on_memory = Signal(received_frame_layout()), Signal()
        status, reply = Signal(Status), self.reply.payload
        m.d.comb += [
            on_memory.eq((frame.operation >> 1) == (Operation.READ_MEMORY >> 1)),
            self.release.payload.eq(frame.slot),
            *same_fields(reply, frame, "sequence", "operation"),
            reply.status.eq(status),
        ]
        with m.If(status == Status.OK):
            length = Mux(frame.operation[0], 0, frame.length)
            m.d.comb += reply.length.eq(Mux(frame.operation == Operation.IDENTIFY, IDENTITY_BYTES, length))
        for port in (self.registers, self.memory):
            access = port.access.payload
            m.d.comb += [access.write.eq(frame.operation[0]), *same_fields(access, frame, "address", "length")]
        self._sequence(m, frame, status, on_memory)
        return m

    def _sequence(self, m: Module, frame: data.View, status: Signal, on_memory: Signal) -> None:
        """Walk through one request.

        Checking and deciding take a state each, because the 33-bit comparison of addresses and the comparison with the
        last frame do not fit into one cycle with what follows. Requests come one by one over a slow line, so nothing is
        gained by overlapping them.
        """
        given, taken = self._buffers(m, frame, on_memory)
        done = Mux(on_memory, self.memory.done, self.registers.done)
        failed = Mux(on_memory, self.memory.failed, self.registers.failed)
        last = self._remember(m, frame, failed)
        is_write, identify = frame.operation[0], frame.operation == Operation.IDENTIFY
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += self.frame.ready.eq(1)
                m.d.sync += frame.eq(self.frame.payload)
                with m.If(self.frame.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                self._check(m, frame, status)
                m.next = "DECIDE"
            # The payload leaves its block RAM before it is known whether it is needed. That costs nothing, because a
            # later run drops it.
            with m.State("DECIDE"):
                m.d.comb += given.run.valid.eq(is_write)
                m.next = "REPLY"
                with m.If(status == Status.OK):
                    with m.If(identify):
                        m.d.comb += last.forget.eq(1)
                    with m.Elif(last.repeated & (frame.operation == Operation.WRITE_REGISTERS)):
                        m.d.sync += status.eq(Mux(last.failed, Status.BUS_ERROR, Status.OK))
                    with m.Else():
                        m.next = "START"
            with m.State("START"):
                for which, port in enumerate((self.registers, self.memory)):
                    with m.If(on_memory == which):
                        m.d.comb += port.access.valid.eq(1)
                        with m.If(port.access.ready):
                            m.next = "RUN"
            # A frame counts as executed even if the bus failed: its repetition must not touch the registers again.
            with m.State("RUN"), m.If(done):
                m.d.comb += last.executed.eq(1)
                with m.If(failed):
                    m.d.sync += status.eq(Status.BUS_ERROR)
                m.next = "REPLY"
            # Only now is the length of the reply settled, because a bus error takes its payload away.
            with m.State("REPLY"):
                m.d.comb += taken.run.valid.eq(1)
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.reply.valid.eq(1)
                # A request that was refused on arrival occupies no slot, so there is none to release.
                with m.If(self.reply.ready):
                    m.d.comb += self.release.valid.eq(is_write & (frame.status == Status.OK))
                    m.next = "IDLE"

    def _buffers(self, m: Module, frame: data.View, on_memory: Signal) -> tuple[ByteBuffer, ByteBuffer]:
        """Payloads of requests and of replies, between line and ports; the identity lies behind the latter."""
        identity = [0] * PAYLOAD_BYTES + list(self._identity.encode())
        m.submodules.given = given = ByteBuffer(SLOTS * PAYLOAD_BYTES)
        m.submodules.taken = taken = ByteBuffer(2 * PAYLOAD_BYTES, identity)
        connect(m, flipped(self.write), given.write)
        connect(m, taken.byte, flipped(self.payload))
        place = Signal(range(PAYLOAD_BYTES))
        m.d.comb += [
            given.run.payload.first.eq(Cat(Const(0, exact_log2(PAYLOAD_BYTES)), frame.slot)),
            given.run.payload.count.eq(frame.length),
            taken.run.payload.first.eq(Mux(frame.operation == Operation.IDENTIFY, PAYLOAD_BYTES, 0)),
            taken.run.payload.count.eq(self.reply.payload.length),
            taken.write.payload.address.eq(place),
        ]
        # The bytes of a reply are stored before any of them is sent, because the header in front has the status.
        with m.If(taken.write.valid):
            m.d.sync += place.eq(place + 1)
        with m.If(self.reply.valid):
            m.d.sync += place.eq(0)
        for which, port in enumerate((self.registers, self.memory)):
            m.d.comb += [port.given.payload.eq(given.byte.payload), port.taken.ready.eq(1)]
            with m.If(on_memory == which):
                hand_over(m, given.byte, port.given)
                m.d.comb += [
                    taken.write.valid.eq(port.taken.valid),
                    taken.write.payload.data.eq(port.taken.payload),
                ]
        return given, taken

    def _check(self, m: Module, frame: data.View, status: Signal) -> None:
        """Find what is wrong with the request, if anything."""
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

    def _remember(self, m: Module, frame: data.View, failed: Value) -> _LastFrame:
        """Remember the frame executed last, and compare the present one with it."""
        last = _LastFrame()
        known, present = Signal(), Cat(frame.sequence, frame.check)
        executed = Signal(len(present))
        # A register: the frame is in place a cycle before it is decided, and the comparison takes as long.
        m.d.sync += last.repeated.eq(known & (present == executed))
        with m.If(last.forget):
            m.d.sync += known.eq(0)
        with m.If(last.executed):
            m.d.sync += [known.eq(1), executed.eq(present), last.failed.eq(failed)]
        return last


class _LastFrame:
    """Signals about the frame executed last.

    Members
    -------
    executed, forget:
        Events: the present frame was executed; forget the last one.
    failed:
        The last frame ended with a bus error.
    repeated:
        The present frame is the last one again; known a cycle after it was taken on.
    """

    def __init__(self) -> None:
        self.executed, self.forget = Signal(name="executed"), Signal(name="forget")
        self.failed, self.repeated = Signal(name="last_failed"), Signal(name="repeated")
