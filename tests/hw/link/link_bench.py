"""Runs inside the simulator: a host at the pins of the link, AXI memory and registers behind it."""

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge, Timer

from tessera.hw.presets import preset
from tessera.hw.protocol import (
    IDENTITY_BYTES,
    REPLY_OVERHEAD,
    REQUEST_OVERHEAD,
    Identity,
    Operation,
    ReplyParser,
    Request,
    Status,
)
from tessera.sim.bench.streams import CLOCK_PERIOD_NS, clock_and_reset, cycle, parameters, rng, wait_cycles
from tests.helpers.axi_models import check_burst

SIZE = 1 << 14
BIT_NS = 8 * CLOCK_PERIOD_NS
CONFIG = preset(parameters()["preset"])
WIDTH = CONFIG.memory_bytes
REQUEST = ("valid", "ready", "addr", "len", "size", "burst")


class Host:
    """Sends requests, collects replies."""

    def __init__(self, dut):
        self._dut, self._parser = dut, ReplyParser()
        self.replies, self.end = [], 0
        cocotb.start_soon(self._listen())

    async def _listen(self):
        while True:
            await FallingEdge(self._dut.tx)
            await Timer(BIT_NS // 2, "ns")
            byte = 0
            for index in range(8):
                await Timer(BIT_NS, "ns")
                byte |= int(self._dut.tx.value) << index
            await Timer(BIT_NS, "ns")
            assert self._dut.tx.value == 1, "no stop bit"
            self.end = cycle()
            self.replies += self._parser.feed(bytes([byte]))

    async def send(self, content):
        for byte in content:
            for bit in (0, *(byte >> index & 1 for index in range(8)), 1):
                self._dut.rx.value = bit
                await Timer(BIT_NS, "ns")

    async def reply(self, limit=400_000):
        """The next reply, or None."""
        for _ in range(limit // 100):
            if self.replies:
                return self.replies.pop(0)
            await wait_cycles(self._dut, 100)
        return None

    async def call(self, sequence, operation, address=0, length=0, payload=b""):
        await self.send(Request(sequence, operation, len(payload) or length, address, payload).encode())
        reply = await self.reply()
        assert reply is not None, f"no reply to {operation.name}"
        assert (reply.sequence, reply.operation) == (sequence, operation)
        return reply

    async def get(self, *arguments, **options):
        reply = await self.call(*arguments, **options)
        assert reply.status == Status.OK, reply
        return reply.payload


class Registers:
    """AXI4-Lite slave that notes every access; ``broken`` addresses answer with an error."""

    def __init__(self, dut, stall):
        self.values, self.writes, self.reads, self.broken = {}, [], [], set()
        self._dut, self._stall, self._random = dut, stall, rng("registers")
        cocotb.start_soon(self._write())
        cocotb.start_soon(self._read())

    async def _take(self, channel):
        """Wait for a transfer on a channel that the master drives."""
        valid, ready = (getattr(self._dut, f"control__{channel}{end}") for end in ("valid", "ready"))
        while True:
            if valid.value != 1:
                await RisingEdge(valid)
            if self._random.random() < self._stall:
                await wait_cycles(self._dut, int(self._random.integers(1, 20)))
            ready.value = 1
            await RisingEdge(self._dut.clk)
            assert valid.value == 1
            ready.value = 0
            await Timer(1, "ns")
            return

    async def _write(self):
        dut = self._dut
        while True:
            order = ["aw", "w"] if self._random.random() < 0.5 else ["w", "aw"]
            at = data = None
            for channel in order:
                valid = getattr(dut, f"control__{channel}valid")
                if valid.value != 1:
                    await RisingEdge(valid)
                at = int(dut.control__awaddr.value) if channel == "aw" else at
                data = int(dut.control__wdata.value) if channel == "w" else data
                assert channel == "aw" or dut.control__wstrb.value == 15
                await self._take(channel)
            self.writes.append((at, data))
            self.values[at] = data
            await self._answer("b", at)

    async def _read(self):
        dut = self._dut
        while True:
            if dut.control__arvalid.value != 1:
                await RisingEdge(dut.control__arvalid)
            at = int(dut.control__araddr.value)
            await self._take("ar")
            self.reads.append(at)
            dut.control__rdata.value = self.values.get(at, 0x01020300 | at)
            await self._answer("r", at)

    async def _answer(self, channel, at):
        dut = self._dut
        getattr(dut, f"control__{channel}resp").value = 2 if at in self.broken else 0
        getattr(dut, f"control__{channel}valid").value = 1
        await RisingEdge(dut.clk)
        assert getattr(dut, f"control__{channel}ready").value == 1
        getattr(dut, f"control__{channel}valid").value = 0
        await Timer(1, "ns")


class Memory:
    """AXI4 slave of one burst at a time; notes every burst, and answers with an error beyond its content."""

    def __init__(self, dut, stall):
        self.content, self.bursts = bytearray(rng("content").bytes(SIZE)), []
        self._dut, self._stall, self._random = dut, stall, rng("memory")
        cocotb.start_soon(self._reads())
        cocotb.start_soon(self._writes())

    async def _pause(self):
        while self._random.random() < self._stall:
            await RisingEdge(self._dut.clk)

    async def _request(self, bus, channel):
        """Wait for a burst; returns its address and beats."""
        ports = {name: getattr(self._dut, f"{bus}__{channel}{name}") for name in REQUEST}
        if ports["valid"].value != 1:
            await RisingEdge(ports["valid"])
        await self._pause()
        ports["ready"].value = 1
        await RisingEdge(self._dut.clk)
        assert ports["valid"].value == 1
        ports["ready"].value = 0
        address, length, size, kind = (int(ports[name].value) for name in ("addr", "len", "size", "burst"))
        check_burst(address, length, size, kind, WIDTH)
        self.bursts.append((channel, address, (length + 1) * WIDTH))
        await Timer(1, "ns")
        return address, length + 1

    async def _until(self, signal):
        await RisingEdge(self._dut.clk)
        while signal.value != 1:
            await RisingEdge(self._dut.clk)

    async def _reads(self):
        dut = self._dut
        while True:
            address, beats = await self._request("read", "ar")
            for beat in range(beats):
                await self._pause()
                at = address + beat * WIDTH
                dut.read__rdata.value = int.from_bytes(self.content[at : at + WIDTH], "little")
                dut.read__rresp.value = 0 if at + WIDTH <= SIZE else 2
                dut.read__rlast.value = int(beat == beats - 1)
                dut.read__rvalid.value = 1
                await self._until(dut.read__rready)
                dut.read__rvalid.value = 0

    async def _writes(self):
        dut = self._dut
        while True:
            address, beats = await self._request("write", "aw")
            for beat in range(beats):
                await self._pause()
                dut.write__wready.value = 1
                await self._until(dut.write__wvalid)
                dut.write__wready.value = 0
                at = address + beat * WIDTH
                assert dut.write__wlast.value == (beat == beats - 1)
                assert int(dut.write__wstrb.value) == (1 << WIDTH) - 1
                if at + WIDTH <= SIZE:
                    self.content[at : at + WIDTH] = int(dut.write__wdata.value).to_bytes(WIDTH, "little")
            await self._pause()
            dut.write__bresp.value = 0 if address + beats * WIDTH <= SIZE else 2
            dut.write__bvalid.value = 1
            await self._until(dut.write__bready)
            dut.write__bvalid.value = 0


async def begin(dut):
    await clock_and_reset(dut)
    dut.rx.value = 1
    stall = parameters()["stall"]
    host, registers, memory = Host(dut), Registers(dut, stall), Memory(dut, stall)
    await wait_cycles(dut, 20)
    return host, registers, memory, memory.bursts


@cocotb.test()
async def identity_is_told(dut):
    host, *_ = await begin(dut)
    payload = await host.get(1, Operation.IDENTIFY)
    assert len(payload) == IDENTITY_BYTES
    assert Identity.decode(payload) == Identity.of(CONFIG, clock_hz=100_000_000, build="bench")


@cocotb.test()
async def registers_are_read_and_written_in_order(dut):
    host, registers, *_ = await begin(dut)
    words = [0x11223344, 0xAABBCCDD, 0x00000001]
    payload = b"".join(word.to_bytes(4, "little") for word in words)
    assert await host.get(1, Operation.WRITE_REGISTERS, 0x18, payload=payload) == b""
    assert registers.writes == [(0x18, words[0]), (0x1C, words[1]), (0x20, words[2])]
    found = await host.get(2, Operation.READ_REGISTERS, 0x14, 16)
    assert found == (0x01020314).to_bytes(4, "little") + payload and registers.reads == [0x14, 0x18, 0x1C, 0x20]
    assert len(await host.get(3, Operation.READ_REGISTERS, 0, 256)) == 256


@cocotb.test()
async def a_write_of_registers_is_executed_once(dut):
    host, registers, *_ = await begin(dut)
    for sequence, operation, times in ((7, Operation.WRITE_REGISTERS, 3), (8, Operation.READ_REGISTERS, 2)):
        for _ in range(times):
            payload = b"\1\0\0\0" if operation.writes else b""
            await host.get(sequence, operation, 0x0C, 4, payload)
    assert registers.writes == [(0x0C, 1)] and registers.reads == [0x0C, 0x0C]
    await host.get(7, Operation.WRITE_REGISTERS, 0x0C, payload=b"\1\0\0\0")  # another was between
    assert len(registers.writes) == 2
    await host.get(7, Operation.WRITE_REGISTERS, 0x0C, payload=b"\2\0\0\0")  # another with the same number
    assert registers.writes[2:] == [(0x0C, 2)]
    await host.get(9, Operation.IDENTIFY)
    await host.get(7, Operation.WRITE_REGISTERS, 0x0C, payload=b"\2\0\0\0")  # a new session
    assert len(registers.writes) == 4
    registers.broken.add(0x30)
    for _ in range(2):
        reply = await host.call(10, Operation.WRITE_REGISTERS, 0x30, payload=bytes(4))
        assert reply.status == Status.BUS_ERROR
    assert registers.writes[4:] == [(0x30, 0)]
    assert (await host.call(11, Operation.READ_REGISTERS, 0x2C, 8)).status == Status.BUS_ERROR


@cocotb.test()
async def memory_of_every_length_and_across_pages(dut):
    host, _, memory, found = await begin(dut)
    content = bytearray(memory.content)
    random = rng("accesses")
    cases = [(0x1000 - WIDTH, 2 * WIDTH), (0x2000 - 512, 1024), (0x400, 1024), (0x800, WIDTH)]
    cases += [(int(random.integers(0, 200)) * WIDTH, int(random.integers(1, 9)) * WIDTH) for _ in range(3)]
    for number, (address, length) in enumerate(cases):
        payload = random.bytes(length)
        await host.get(2 * number, Operation.WRITE_MEMORY, address, payload=payload)
        content[address : address + length] = payload
        for channel, first, size in found:
            assert channel == "aw" and address <= first and first + size <= address + length
        assert sum(size for *_, size in found) == length
        found.clear()
        assert memory.content == content
        assert await host.get(2 * number + 1, Operation.READ_MEMORY, address, length) == payload
        assert sum(size for *_, size in found) == length and {channel for channel, *_ in found} == {"ar"}
        found.clear()


@cocotb.test()
async def what_cannot_be_is_refused(dut):
    host, registers, _, found = await begin(dut)
    cases = [
        (Operation.READ_REGISTERS, 0xFC, 8, Status.BAD_ADDRESS),
        (Operation.READ_REGISTERS, 0x100, 4, Status.BAD_ADDRESS),
        (Operation.READ_REGISTERS, 0x02, 4, Status.BAD_ADDRESS),
        (Operation.READ_REGISTERS, 0, 6, Status.BAD_LENGTH),
        (Operation.READ_REGISTERS, 0, 0, Status.BAD_LENGTH),
        (Operation.READ_MEMORY, 0, 1025, Status.BAD_LENGTH),
        (Operation.READ_MEMORY, 0, WIDTH + 1, Status.BAD_LENGTH),
        (Operation.READ_MEMORY, WIDTH // 2, WIDTH, Status.BAD_ADDRESS),
        (Operation.READ_MEMORY, 0x100000000 - WIDTH, 2 * WIDTH, Status.BAD_ADDRESS),
    ]
    for number, (operation, address, length, status) in enumerate(cases):
        assert (await host.call(number, operation, address, length)).status == status, (operation, address, length)
    for code in (0, 1, 7, 9, 200):
        await host.send(Request(99, code, 4, 0, bytes(4) if code & 1 else b"").encode())
        reply = await host.reply()
        assert (reply.operation, reply.status) == (code, Status.BAD_OPERATION)
    await host.send(Request(99, Operation.WRITE_MEMORY, 2000, 0, bytes(16)).encode())
    assert (await host.reply()).status == Status.BAD_LENGTH
    assert not found and not registers.writes and not registers.reads
    for operation in (Operation.READ_MEMORY, Operation.WRITE_MEMORY):
        payload = bytes(8 * WIDTH) if operation.writes else b""
        assert (await host.call(3, operation, SIZE - 4 * WIDTH, 8 * WIDTH, payload)).status == Status.BUS_ERROR
    await host.get(1, Operation.IDENTIFY)


@cocotb.test()
async def an_unfinished_frame_ends_with_silence(dut):
    host, registers, _, found = await begin(dut)
    frame = Request(1, Operation.WRITE_MEMORY, 32, 0, bytes(range(32))).encode()
    for length in (1, 2, 5, 12, len(frame) - 1):
        await host.send(frame[:length])
        await Timer(25 * 10 * BIT_NS, "ns")
        await host.get(2, Operation.IDENTIFY)
    assert not found
    await host.send(frame[:12])
    await Timer(15 * 10 * BIT_NS, "ns")  # within what is allowed
    await host.send(frame[12:])
    assert (await host.reply()).status == Status.OK


@cocotb.test()
async def a_bad_frame_is_told_and_does_nothing(dut):
    host, registers, _, found = await begin(dut)
    frame = bytearray(Request(5, Operation.WRITE_MEMORY, 32, 0, bytes(range(32))).encode())
    frame[20] ^= 4
    await host.send(frame)
    reply = await host.reply()
    assert (reply.sequence, reply.status) == (5, Status.BAD_CRC) and not found


@cocotb.test()
async def a_window_of_frames_keeps_the_line_busy(dut):
    host, _, memory, _ = await begin(dut)
    length = 256
    begun = cycle()
    frames = [Request(n, Operation.WRITE_MEMORY, length, n * length, bytes([n]) * length) for n in range(8)]
    await host.send(b"".join(frame.encode() for frame in frames))
    for frame in frames:
        reply = await host.reply()
        assert (reply.sequence, reply.status) == (frame.sequence, Status.OK)
    assert memory.content[: 8 * length] == b"".join(frame.payload for frame in frames)
    taken = host.end - begun
    assert taken < 80 * (8 * (REQUEST_OVERHEAD + length) + REPLY_OVERHEAD) * 1.02 + 2 * length
    for first in range(0, 8, 2):
        begun = cycle()
        reads = [Request(n, Operation.READ_MEMORY, length, n * length) for n in (first, first + 1)]
        await host.send(b"".join(read.encode() for read in reads))
        for read in reads:
            assert (await host.reply()).payload == bytes([read.sequence]) * length
        taken = host.end - begun
        assert taken < 80 * (2 * (REPLY_OVERHEAD + length) + REQUEST_OVERHEAD) * 1.02 + 8 * length
