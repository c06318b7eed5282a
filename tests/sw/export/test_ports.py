"""The exported module's ports: the standard's names, and no change without a new version."""

from __future__ import annotations

import pytest

from tessera.hw.control.control import INTERFACE_VERSION
from tessera.hw.presets import PRESETS, preset
from tessera.sw.export.interface import interface_description
from tessera.sw.export.ports import PORTS_VERSION, core_ports

KEPT = {
    # (version of the ports, version of the registers): digest of the interface by preset
    (1, 2): {
        "tiny": "bbfd0bcb391d2d2bb647",
        "ecp5-85f": "b23d63e324609c8f5ed1",
        "edge": "f06729f44f5c699e2ebb",
    },
}
"""What each version was. A line is added, never changed: whoever wired a version finds it as it was."""

AXI4_LITE = {
    *"awaddr awprot awvalid awready wdata wstrb wvalid wready bresp bvalid bready".split(),
    *"araddr arprot arvalid arready rdata rresp rvalid rready".split(),
}
AXI4 = {
    *"awid awaddr awlen awsize awburst awlock awcache awprot awqos awvalid awready".split(),
    *"wdata wstrb wlast wvalid wready bid bresp bvalid bready".split(),
    *"arid araddr arlen arsize arburst arlock arcache arprot arqos arvalid arready".split(),
    *"rid rdata rresp rlast rvalid rready".split(),
}


@pytest.mark.parametrize("name", KEPT[PORTS_VERSION, INTERFACE_VERSION])
def test_the_interface_of_a_version_never_changes(name):
    found = interface_description(preset(name))["digest"]
    assert found == KEPT[PORTS_VERSION, INTERFACE_VERSION][name], (
        "ports, buses or registers changed: raise PORTS_VERSION, or INTERFACE_VERSION for registers, and add a line"
    )


@pytest.mark.parametrize("name", PRESETS)
def test_every_bus_is_whole_and_as_wide_as_the_machine_says(name):
    config = preset(name)
    ports = {port.name: port for port in core_ports(config).ports}
    buses = {prefix: {port.wire for port in ports.values() if port.bus == prefix} for prefix in ("s_axil", "m_axi")}
    assert buses == {"s_axil": AXI4_LITE, "m_axi": AXI4}
    assert {port.name for port in ports.values() if not port.bus} == {"clk", "rst", "irq"}
    assert ports["m_axi_rdata"].width == ports["m_axi_wdata"].width == 8 * config.memory_bytes
    assert ports["m_axi_wstrb"].width == config.memory_bytes and ports["s_axil_rdata"].width == 32
    assert ports["m_axi_rready"].direction == ports["s_axil_rvalid"].direction == "out"
    assert all(port.meaning for port in ports.values())


def test_every_port_is_driven_or_read_once():
    found = core_ports(preset("tiny"))
    inside = [name for connection in found.connections for name in connection.outer]
    apart = [port.name for port in found.ports if port.constant is not None or port.ignored]
    assert sorted([*inside, *apart]) == sorted(port.name for port in found.ports)


def test_the_digest_follows_ports_and_not_their_sentences(monkeypatch):
    from tessera.sw.export import ports

    before = interface_description(preset("tiny"))["digest"]
    monkeypatch.setitem(ports._MEANINGS, "addr", "an address")
    assert interface_description(preset("tiny"))["digest"] == before
    monkeypatch.setitem(ports._BURST, "cache", (4, 2))
    assert interface_description(preset("tiny"))["digest"] != before
