"""The jobs and the stream blocks that a program must lead to, worked out without the sequencer."""

from __future__ import annotations

from typing import Any

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import StreamKind
from tessera.hw.isa import COMMAND_BYTES, Opcode, decode
from tessera.hw.tables import TABLE_ENTRIES

UNITS = {
    Opcode.LINEAR: "engine",
    Opcode.CONVOLUTION: "engine",
    Opcode.ATTENTION: "engine",
    Opcode.LAYERNORM: "layernorm",
    Opcode.GATE: "gate",
    Opcode.LOAD_IMAGE: "image",
    Opcode.STORE: "store",
}
DELIVERIES = {
    Opcode.STAGE: StreamKind.STAGE,
    Opcode.LOAD_RESIDUAL: StreamKind.RESIDUAL,
    Opcode.LIST: StreamKind.LIST,
    Opcode.TABLE: StreamKind.TABLE,
}
"""Commands that are only a stream block, with its kind."""


class ExpectedJobs:
    """What one program leads to, in order.

    Parameters
    ----------
    config:
        Sizes of the machine.
    counts:
        Tokens in the queue of each expert.
    weight_address, image_base, output_base:
        Byte addresses of weights, image and results.

    Members
    -------
    log: list
        (unit, fields) for each job, and ("block", command) for each delivery.
    blocks: list
        Fields of each stream block; ``stored_by`` is the index of a command with ``stored``.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        counts: list[int],
        *,
        weight_address: int,
        image_base: int,
        output_base: int,
    ) -> None:
        self.log: list[tuple] = []
        self.blocks: list[dict[str, Any]] = []
        self._config, self._weight_address, self._counts = config, weight_address, counts
        self._bases = {"image_base": image_base, "output_base": output_base}

    def run(self, program: bytes, task: int) -> ExpectedJobs:
        """Walk the commands of a task up to END."""
        for index in range(len(program) // COMMAND_BYTES):
            opcode, fields = decode(program[index * COMMAND_BYTES :][:COMMAND_BYTES])
            if opcode == Opcode.END:
                break
            if fields["task_mask"] >> task & 1:
                self._command(index, opcode, fields)
        return self

    def _command(self, index: int, opcode: Opcode, c: dict[str, int]) -> None:
        base = self._bases["output_base"] if c.get("stored") else self._weight_address
        block = {"address": base + c.get("stream_address", 0), "bytes": c.get("stream_bytes", 0)}
        if opcode == Opcode.LINEAR:
            tiles = 0 if c["swapped"] else -(-c["stationary_rows"] // self._config.elements)
            block |= {"kind": StreamKind.WEIGHTS, "tiles": tiles}
            self.blocks.append(block | {name: c[name] for name in ("channels", "words", "wide")})
        elif opcode == Opcode.CONVOLUTION:
            c = c | {"channels": c["stationary_rows"], "convolution": 1}
            tiles = -(-c["stationary_rows"] // self._config.elements)
            self.blocks.append(block | {"kind": StreamKind.WEIGHTS, "tiles": tiles, "words": c["words"], "wide": 0})
            self.blocks[-1] |= {"channels": c["stationary_rows"]}
        elif opcode == Opcode.LAYERNORM:
            self.blocks.append(block | {"kind": StreamKind.SHIFTS, "channels": c["words"] * self._config.lanes})
        elif opcode in DELIVERIES:
            block |= {"kind": DELIVERIES[opcode]}
            if c.get("stored"):
                block |= {"stored_by": index}
            if opcode == Opcode.TABLE:
                block |= {"channels": 4 * TABLE_ENTRIES}
            else:
                block |= {"words": c["words"], "base": c["destination_base"]}
            self.blocks.append(block)
            self.log.append(("block", index))
        elif opcode == Opcode.EXPERTS:
            self._experts(c, block["address"])
        if opcode in UNITS:
            self.log.append((UNITS[opcode], c | self._bases | {"attention": int(opcode == Opcode.ATTENTION)}))

    def _experts(self, c: dict[str, int], address: int) -> None:
        """Two jobs and two blocks for each expert that has tokens."""
        for expert, steps in enumerate(self._counts[: c["experts"]]):
            if not steps:
                continue
            common = {"list": expert * self._config.max_tokens, "routed": 1, "steps": steps, "attention": 0}
            first = {
                "gather": 1, "scatter": 0, "function": c["function"], "words": c["source_words"],
                "broadcast_base": c["source_base"], "channels": c["hidden_channels"],
            }  # fmt: skip
            second = {
                "gather": 0, "scatter": 1, "function": 0, "words": c["hidden_words"],
                "destination": 1, "broadcast_unsigned": 1, "channels": c["channels"],
            }  # fmt: skip
            self.log += [("engine", common | first), ("engine", common | second)]
            block, size = address + expert * c["stream_bytes"], c["first_bytes"]
            self.blocks += [
                {"address": block, "bytes": size, "words": c["source_words"]},
                {"address": block + size, "bytes": c["stream_bytes"] - size, "channels": c["channels"]},
            ]
