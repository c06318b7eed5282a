"""The register map in Markdown, C and SVD says what the hardware does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.site import hardware
from tessera.common import tools
from tessera.hw.control.control import IDENTITY, configuration_word
from tessera.hw.presets import PRESETS, preset
from tessera.hw.register_map import REGISTERS, Access
from tessera.sw.driver import device
from tessera.sw.export.registers import BIT_FIELDS, ENUMS, c_header, register_table, registers_page
from tessera.sw.export.svd import svd

SEQUENCES = {
    "device": "vendor name version description addressUnitBits width size resetValue resetMask peripherals",
    "peripherals": "peripheral",
    "peripheral": "name description baseAddress addressBlock interrupt registers",
    "addressBlock": "offset size usage",
    "interrupt": "name description value",
    "registers": "register",
    "register": "name description addressOffset size access resetValue resetMask fields",
    "fields": "field",
    "field": "name description bitOffset bitWidth enumeratedValues",
    "enumeratedValues": "enumeratedValue",
    "enumeratedValue": "name description value",
}
"""Children of each element in the order of CMSIS-SVD.xsd 1.3, as far as they are used; the schema is a sequence."""
OPTIONAL = {"fields", "enumeratedValues"}


def test_the_page_and_the_exported_file_have_one_table():
    assert hardware.registers() == register_table()
    assert register_table() in registers_page(preset("edge"), "tessera_edge")


def test_every_register_is_in_the_table():
    table = register_table()
    for name, register in REGISTERS.items():
        assert re.search(rf"^\| 0x{register.offset:02x} \| `{name}` \| .* \| {register.width} \| ", table, re.MULTILINE)


@pytest.mark.parametrize("name", PRESETS)
def test_fields_of_the_configuration_are_those_of_the_hardware(name):
    config = preset(name)
    values = {
        "log2_elements": config.elements.bit_length() - 1,
        "log2_lanes": config.lanes.bit_length() - 1,
        "log2_memory_bytes": config.memory_bytes.bit_length() - 1,
        "activation_width": config.numerics.activation_width,
        "residual_width": config.numerics.residual_width,
    }
    word = sum(values[field.name] << field.low for field in BIT_FIELDS["configuration"])
    assert word == configuration_word(config)
    assert f"`configuration` | 0x{word:08x} |" in registers_page(config, "top")


def test_fields_are_those_that_the_driver_uses():
    masks = {name: {field.name: field.mask for field in fields} for name, fields in BIT_FIELDS.items()}
    assert masks["control"] == {"start": device._START, "abort": device._ABORT}
    assert {**masks["status"], "saturated": 8} == {
        "busy": device._BUSY,
        "done": device._DONE,
        "error": device._ERROR,
        "saturated": 8,
    }


def test_every_named_value_has_a_meaning():
    for values in ENUMS:
        assert set(values.meanings) == {member.name for member in values.kind}


def test_fields_do_not_overlap_and_stay_in_their_register():
    for name, fields in BIT_FIELDS.items():
        masks = [field.mask for field in fields]
        assert sum(masks) < 1 << REGISTERS[name].width and sum(masks) == sum(set(masks))
        assert all(a & b == 0 for a in masks for b in masks if a != b)


def test_the_header_compiles_as_c_and_has_the_offsets(tmp_path: Path):
    config = preset("edge")
    (tmp_path / "tessera_regs.h").write_text(c_header(config, "tessera_edge"))
    checks = [f"TESSERA_REG_{name.upper()} == {register.offset}" for name, register in REGISTERS.items()]
    checks += [
        f"TESSERA_{name.upper()}_{field.name.upper()} == {field.mask}u"
        for name, fields in BIT_FIELDS.items()
        for field in fields
    ]
    checks += [f"TESSERA_{e.prefix}_{member.name} == {member.value}" for e in ENUMS for member in e.kind]
    checks += [
        f"TESSERA_IDENTITY_VALUE == {IDENTITY}u",
        f"TESSERA_CONFIGURATION_VALUE == {configuration_word(config)}u",
    ]
    lines = [f"typedef char check_{number}[({check}) ? 1 : -1];" for number, check in enumerate(checks)]
    source = '#include "tessera_regs.h"\n#include "tessera_regs.h"\n' + "\n".join(lines) + "\n"
    for suffix in ("c", "cpp"):
        (tmp_path / f"use.{suffix}").write_text(source)
        command = [*tools.cxx_compiler(), "-x", "c" if suffix == "c" else "c++", "-Wall", "-Wextra", "-pedantic"]
        command += ["-Werror", "-Wno-unused-local-typedefs", "-fsyntax-only", f"use.{suffix}"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr


def test_svd_follows_the_schema():
    device = ElementTree.fromstring(svd(preset("edge"), "tessera_edge"))
    assert device.tag == "device" and device.get("schemaVersion") == "1.3"
    for element in device.iter():
        names = [child.tag for child in element]
        if not names:
            assert element.text and element.text.strip()
            continue
        order = SEQUENCES[element.tag].split()
        assert names == sorted(names, key=order.index)
        assert set(order) - set(names) <= OPTIONAL
        assert len(set(names)) == len(names) or len(order) == 1
    for name in device.iter("name"):
        assert re.fullmatch(r"[_A-Za-z][_A-Za-z0-9]*", name.text or "")
    for tag in ("addressOffset", "resetValue", "resetMask", "bitOffset", "bitWidth", "baseAddress"):
        for element in device.iter(tag):
            assert re.fullmatch(r"(0x)?[0-9a-fA-F]+", element.text or "")


def test_svd_has_every_register():
    device = ElementTree.fromstring(svd(preset("edge"), "tessera_edge"))
    found = {element.findtext("name"): element for element in device.iter("register")}
    words = {Access.READ_ONLY: "read-only", Access.READ_WRITE: "read-write", Access.WRITE_ONLY: "write-only"}
    assert set(found) == {name.upper() for name in REGISTERS}
    for name, register in REGISTERS.items():
        element = found[name.upper()]
        assert int(element.findtext("addressOffset"), 16) == register.offset
        assert element.findtext("access") == words[register.access]
        fields = [(field.low, field.width) for field in BIT_FIELDS.get(name, ())]
        if not fields and register.width < 32:
            fields = [(0, register.width)]
        places = [(int(f.findtext("bitOffset")), int(f.findtext("bitWidth"))) for f in element.iter("field")]
        assert places == fields
    assert found["IDENTITY"].findtext("resetValue") == hex(IDENTITY)
    values = {v.findtext("name"): v.findtext("value") for v in found["ERROR_CODE"].iter("enumeratedValue")}
    assert values["WATCHDOG"] == "6"
