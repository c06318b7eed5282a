"""What can go wrong with a board; every message says what was expected and what to do."""

from __future__ import annotations


class DriverError(RuntimeError):
    """A board cannot be used, or not any more."""


class PortError(DriverError):
    """The serial port cannot be opened."""


class NoAnswer(DriverError):
    """The port is there, but nothing on it speaks the host link's protocol."""


class WrongDevice(DriverError):
    """Something answers that is no Tessera, or of another version."""


class WrongConfiguration(DriverError):
    """The bitstream was built for another configuration than the program."""


class LinkLost(DriverError):
    """The device answered before and does not any more."""


class RequestRefused(DriverError):
    """The device did not carry a request out: bad address, bus error."""


class WrongContent(DriverError):
    """What was read back is not what was written."""


class MachineHalted(DriverError):
    """The accelerator ended a run with an ErrorCode."""
