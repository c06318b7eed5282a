"""The host link: UART at the bit level, then frames against AXI models that check every rule."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.link.link import HostLink
from tessera.hw.link.uart import UartReceiver, UartTransmitter
from tessera.hw.presets import preset
from tessera.hw.protocol import Identity
from tessera.sim.bench.run import run_testbench
from tessera.sw.fpga.measure import measure
from tests.helpers.on_bus import OnBus

CLOCK_HZ = 100_000_000


class Uart(wiring.Component):
    """Both directions under one top."""

    def __init__(self, cycles_per_bit):
        self._receiver, self._transmitter = UartReceiver(cycles_per_bit), UartTransmitter(cycles_per_bit)
        super().__init__(
            {
                "rx": In(1),
                "tx": Out(1),
                "received": Out(Strobe(8)),
                "framing_error": Out(1),
                "sent": In(stream.Signature(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver, m.submodules.transmitter = receiver, transmitter = self._receiver, self._transmitter
        connect(m, flipped(self.received), receiver.byte)
        connect(m, flipped(self.sent), transmitter.byte)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            self.framing_error.eq(receiver.framing_error),
        ]
        return m


@pytest.mark.parametrize("cycles_per_bit", [8.0, 50 / 3])
def test_uart(cycles_per_bit):
    run_testbench(
        Uart(cycles_per_bit), "tests.hw.link.uart_bench", parameters={"cycles_per_bit": cycles_per_bit}, seed=3
    )


def test_bits_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match="a bit would take 5.00 cycles, a UART needs at least 6; choose a lower baud"):
        UartReceiver(5.0)


def link(name, **options):
    config = preset(name)
    identity = Identity.of(config, clock_hz=CLOCK_HZ, build="bench")
    return HostLink(config, identity=identity, **{"baud": CLOCK_HZ // 8, "idle_seconds": 0.0} | options)


@pytest.mark.parametrize(("name", "stall"), [("ecp5-wide", 0.0), ("ecp5-wide", 0.4), ("edge", 0.4)])
def test_link(name, stall):
    run_testbench(OnBus(link(name)), "tests.hw.link.link_bench", parameters={"stall": stall, "preset": name}, seed=4)


def test_link_fits_beside_the_machine(tmp_path):
    cost = measure(link("ecp5-wide", baud=3_000_000, idle_seconds=0.01), tmp_path).total
    assert cost["lut"] < 2000 and cost["ff"] < 900 and (cost["bram"], cost["dsp"]) == (2, 0)
