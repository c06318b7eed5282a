"""The way to a board: bytes out, bytes in."""

from __future__ import annotations

from typing import Protocol

import serial
from serial.tools import list_ports

from tessera.sw.driver.errors import LinkLost, PortError

WRITE_SECONDS = 30.0
"""After so long without room for a byte, a port is given up."""


class Transport(Protocol):
    """A line to a device."""

    name: str
    """For messages."""

    def write(self, content: bytes) -> None:
        """Send; LinkLost if the line is gone."""

    def read(self, seconds: float) -> bytes:
        """What has come, at least a byte; nothing after ``seconds``. LinkLost if the line is gone."""

    def close(self) -> None:
        """Give the line back."""


class SerialTransport:
    """A serial port: 8 data bits, no parity, one stop bit, no flow control.

    Parameters
    ----------
    port:
        Such as ``/dev/ttyUSB0``.
    baud:
        Bits a second, as the bitstream was built for.

    Raises
    ------
    PortError
        There is no such port, or it may not be opened; lists those there are.
    """

    def __init__(self, port: str, baud: int) -> None:
        self.name = port
        try:
            self._serial = serial.Serial(port, baud, timeout=0, write_timeout=WRITE_SECONDS, exclusive=True)
            self._serial.reset_input_buffer()
        except (OSError, ValueError) as error:  # pyserial's errors are OSErrors
            raise PortError(_why_not(port, baud, error)) from None

    def write(self, content: bytes) -> None:
        """Send all of it."""
        try:
            self._serial.write(content)
        except OSError as error:
            raise self._lost(error) from None

    def read(self, seconds: float) -> bytes:
        """What has come."""
        try:
            self._serial.timeout = seconds
            return self._serial.read(max(1, self._serial.in_waiting))
        except OSError as error:
            raise self._lost(error) from None

    def close(self) -> None:
        """Close the port."""
        self._serial.close()

    def _lost(self, error: OSError) -> LinkLost:
        return LinkLost(f"{self.name} does not work any more ({error}); check cable and power of the board")


def _why_not(port: str, baud: int, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == 13:
        return f"{port} may not be opened: permission denied; join its group (often: sudo usermod -aG dialout $USER)"
    if isinstance(error, ValueError):
        return f"{port} cannot be set to {baud} baud ({error}); choose another --baud"
    if code != 2:
        return f"{port} cannot be opened ({error}); is another program using it?"
    ports = sorted(found.device for found in list_ports.comports())
    return f"no serial port {port}; this computer has: {', '.join(ports) or 'none, so connect the board'}"
