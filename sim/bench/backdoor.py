"""Back door to the memory model ``memory.sv``: bytes in and out of its array in no simulated time.

Only code inside the simulator can use it.
"""

from __future__ import annotations

from typing import Any

from tessera.sim.models import MODELS

SOURCE = MODELS / "memory.sv"


class MemoryBackdoor:
    """Reads and writes the storage of an ``axi_memory`` instance by byte address.

    Parameters
    ----------
    memory
        Handle of the instance.

    Raises
    ------
    IndexError
        ``read`` or ``write`` got a range that is not inside the memory.
    """

    def __init__(self, memory: Any) -> None:
        self._words = memory.storage
        self.depth = len(self._words)
        self.word_bytes = len(self._words[0]) // 8

    @property
    def size(self) -> int:
        """Bytes that the memory holds."""
        return self.depth * self.word_bytes

    def _range(self, address: int, length: int) -> range:
        if address < 0 or length < 0 or address + length > self.size:
            raise IndexError(f"bytes {address:#x}..{address + length:#x} are not inside the memory of {self.size:#x}")
        return range(address // self.word_bytes, -(-(address + length) // self.word_bytes))

    def read(self, address: int, length: int) -> bytes:
        """Return ``length`` bytes from byte address ``address``, of any alignment."""
        words = self._words
        span = self._range(address, length)
        raw = b"".join(int(words[index].value).to_bytes(self.word_bytes, "little") for index in span)
        start = address % self.word_bytes
        return raw[start : start + length]

    def write(self, address: int, content: bytes) -> None:
        """Write bytes at byte address ``address``, of any alignment. The design sees them from the next time step."""
        span = self._range(address, len(content))
        if not content:
            return
        size = self.word_bytes
        # Words are written whole, so the first and the last keep their other bytes.
        before = self.read(span[0] * size, address % size)
        end = address + len(content)
        raw = before + content + self.read(end, -end % size)
        for position, index in enumerate(span):
            self._words[index].value = int.from_bytes(raw[position * size : (position + 1) * size], "little")
