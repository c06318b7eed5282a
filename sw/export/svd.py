"""The register map as CMSIS-SVD, which debuggers and generators of drivers read."""

from __future__ import annotations

from xml.etree import ElementTree

from tessera.hw.config import AcceleratorConfig
from tessera.hw.control.control import INTERFACE_VERSION
from tessera.hw.protocol import REGISTER_SPACE
from tessera.hw.register_map import Access, Register
from tessera.sw.export.registers import ACCESS, BIT_FIELDS, BitField, fixed_value, register_rows

SCHEMA_VERSION = "1.3"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"


def svd(config: AcceleratorConfig, top: str) -> str:
    """The text of the file. Base address 0 and interrupt 0 stand for those of the system that it becomes a part of."""
    ElementTree.register_namespace("xs", _INSTANCE)
    device = ElementTree.Element("device", {"schemaVersion": SCHEMA_VERSION})
    device.set(f"{{{_INSTANCE}}}noNamespaceSchemaLocation", "CMSIS-SVD.xsd")
    _texts(
        device,
        vendor="Tessera",
        name=top,
        version=str(INTERFACE_VERSION),
        description=f"Tessera accelerator, configuration {config.name}; set baseAddress and interrupt to your system's",
        addressUnitBits="8",
        width="32",
        size="32",
        resetValue="0",
        resetMask="0xFFFFFFFF",
    )
    peripheral = ElementTree.SubElement(ElementTree.SubElement(device, "peripherals"), "peripheral")
    _texts(peripheral, name="TESSERA", description="Accelerator for mixture-of-experts vision transformers")
    _texts(peripheral, baseAddress="0x00000000")
    _texts(ElementTree.SubElement(peripheral, "addressBlock"), offset="0", size=hex(REGISTER_SPACE), usage="registers")
    interrupt = ElementTree.SubElement(peripheral, "interrupt")
    _texts(interrupt, name="TESSERA", description="Done or error, as enabled", value="0")
    registers = ElementTree.SubElement(peripheral, "registers")
    for name, register in register_rows():
        _register(registers, name, register, fixed_value(name, config))
    ElementTree.indent(device)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ElementTree.tostring(device, encoding='unicode')}\n"


def _texts(parent: ElementTree.Element, **texts: str) -> None:
    """Elements in the order of the schema, which is the caller's."""
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = text


def _register(parent: ElementTree.Element, name: str, register: Register, value: int | None) -> None:
    element = ElementTree.SubElement(parent, "register")
    # What the host reads after reset is known of settings and constants alone.
    known = value is not None or register.access is Access.READ_WRITE
    _texts(
        element,
        name=name.upper(),
        description=register.doc,
        addressOffset=hex(register.offset),
        size="32",
        access=ACCESS[register.access],
        resetValue=hex(value or 0),
        resetMask=hex((1 << register.width) - 1 if known else 0),
    )
    parts = BIT_FIELDS.get(name, ())
    if not parts and register.width < 32:
        parts = (BitField("value", 0, register.width, register.doc),)
    if parts:
        fields = ElementTree.SubElement(element, "fields")
        for part in parts:
            _field(fields, part)


def _field(parent: ElementTree.Element, part: BitField) -> None:
    element = ElementTree.SubElement(parent, "field")
    _texts(
        element,
        name=part.name.upper(),
        description=part.doc,
        bitOffset=str(part.low),
        bitWidth=str(part.width),
    )
    if part.values is None:
        return
    values = ElementTree.SubElement(element, "enumeratedValues")
    for member in part.values.kind:
        _texts(
            ElementTree.SubElement(values, "enumeratedValue"),
            name=member.name,
            description=part.values.meanings[member.name],
            value=str(member.value),
        )
