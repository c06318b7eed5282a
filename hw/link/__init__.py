"""Host link: a serial line that carries the host's reads and writes of registers and memory, checked by CRC-32."""
