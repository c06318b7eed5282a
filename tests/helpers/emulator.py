"""Functional emulator of the command semantics: memories are arrays, a command is a few NumPy expressions.

It sees what the machine sees, the binary program and the memory, and nothing of the model. Its traces have the form of
the simulator's, so that compiler and verifier are tested without any RTL. It knows no cycles.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np

from tessera.golden.integer import functions
from tessera.golden.integer.parameters import QuantisedLayerNorm
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import COMMAND_BYTES, Destination, Function, Opcode, decode
from tessera.hw.tables import TABLE_ENTRIES, ActivationTable, gelu_table, relu_table
from tessera.program.program import Program
from tessera.program.traces import Recorder, Traces

Fields = dict[str, int]


class Parameters(NamedTuple):
    """Requantiser parameter sets of a stream block."""

    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray

    def columns(self) -> Parameters:
        """The same, one a row instead of one a column."""
        return Parameters(*(values[:, None] for values in self))


class Result(NamedTuple):
    """Traces of a run, the memory after it, and whether a residual value saturated."""

    traces: Traces
    memory: np.ndarray
    saturated: bool


def _product(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Exact integer ``rows @ weights.T`` at the speed of floating point: every partial sum stays below 2**53."""
    return (rows.astype(np.float64) @ weights.T.astype(np.float64)).astype(np.int64)


class Emulator:
    """Executes a program command by command.

    Parameters
    ----------
    config:
        The machine.
    memory:
        Byte memory with program, weights and image; STORE writes into it.
    registers:
        ``task``, ``program_address``, ``weight_address``, ``image_address``, ``output_address``.
    """

    def __init__(self, config: AcceleratorConfig, memory: np.ndarray, registers: dict[str, int]) -> None:
        self.config, self.memory, self.registers = config, memory, registers
        self.numerics = config.numerics
        self.scratchpad = np.zeros((config.scratchpad_words, config.lanes), np.int64)
        self.residual = np.zeros((config.residual_words, config.lanes), np.int64)
        self.scores = np.zeros((config.score_words, config.elements), np.int64)
        self.queues: list[functions.ExpertQueue] = []
        self.table = relu_table()
        self.entries = np.zeros(config.list_entries, np.int64)
        self.saturated = False
        self.recorder = Recorder(config)

    def run(self) -> None:
        """Execute from the program address to END."""
        actions: dict[Opcode, Callable[[Fields], None]] = {
            Opcode.LOAD_IMAGE: self._load_image,
            Opcode.LOAD_RESIDUAL: self._load_residual,
            Opcode.STAGE: self._stage,
            Opcode.LIST: self._list,
            Opcode.LINEAR: self._linear,
            Opcode.CONVOLUTION: self._convolution,
            Opcode.ATTENTION: self._attention,
            Opcode.LAYERNORM: self._layernorm,
            Opcode.GATE: self._gate,
            Opcode.EXPERTS: self._experts,
            Opcode.STORE: self._store,
            Opcode.TABLE: self._load_table,
        }
        address = self.registers["program_address"]
        while True:
            opcode, fields = decode(self.memory[address : address + COMMAND_BYTES].tobytes())
            if fields["task_mask"] >> self.registers["task"] & 1:
                if opcode == Opcode.END:
                    return
                actions[opcode](fields)
            address += COMMAND_BYTES
            self.recorder.command += 1

    # Memories ---------------------------------------------------------------------------------------------------------

    def _stream(self, address: int, size: int) -> np.ndarray:
        start = self.registers["weight_address"] + address
        return self.memory[start : start + size]

    def _parameters(self, address: int, channels: int) -> Parameters:
        words = self._stream(address, 8 * channels).copy().view("<u8").astype(np.int64)
        bias = (words & 0xFFFFFFFF) - ((words & 0x80000000) << 1)
        return Parameters(bias, words >> 32 & 0x1FFFF, words >> 56 & 0x3F)

    def _weights(self, address: int, channels: int, rows: int, words: int, wide: bool) -> tuple[Parameters, np.ndarray]:
        """Parameter sets and the (rows padded to tiles, inputs) matrix of a stream block."""
        c = self.config
        first = -(-8 * channels // c.chunk_bytes) * c.chunk_bytes
        tiles = -(-rows // c.elements)
        data = self._stream(address + first, tiles * c.elements * words * c.lanes)
        data = data.reshape(tiles, words, c.elements, c.lanes).transpose(0, 2, 1, 3).reshape(tiles * c.elements, -1)
        matrix = np.ascontiguousarray(data).view("<i2" if wide else "i1").astype(np.int64)
        return self._parameters(address, channels), matrix

    def _rows(
        self, base: int, stride: int, rows: int, words: int, signed: bool = True, wide: bool = False
    ) -> np.ndarray:
        """Scratchpad rows as (rows, values), at equal distances."""
        return self._rows_at(base + np.arange(rows) * stride, words, signed, wide)

    def _rows_at(self, starts: np.ndarray, words: int, signed: bool, wide: bool = False) -> np.ndarray:
        """Scratchpad rows as (rows, values), wherever they start."""
        raw = self.scratchpad[(starts[:, None] + np.arange(words)) & 0xFFFF].reshape(len(starts), -1)
        width = self.numerics.activation_width
        if wide:
            raw, width = (raw[:, 0::2] | raw[:, 1::2] << width) & 0xFFFF, 16
        return raw - ((raw >> (width - 1) & 1) << width) if signed else raw

    def _write(self, space: str, address: np.ndarray, columns: np.ndarray, data: np.ndarray) -> None:
        """Write P lanes each: ``address``, ``columns`` (n,) and ``data`` (n, P), in order of time."""
        c = self.config
        memory = self.scratchpad if space == "scratchpad" else self.residual
        if space == "scratchpad":
            data = data & ((1 << self.numerics.activation_width) - 1)
        memory.reshape(len(memory), c.columns, c.elements)[address, columns] = data
        full = np.zeros((len(address), c.columns, c.elements), np.int64)
        full[np.arange(len(address)), columns] = data
        self.recorder.add(
            space, len(address), address=address, columns=1 << columns, data=full.reshape(len(address), c.lanes)
        )

    def _write_words(self, space: str, address: np.ndarray, data: np.ndarray) -> None:
        """Write whole words: ``address`` of any shape and ``data`` with T lanes more."""
        columns = self.config.columns
        address = address.reshape(-1)
        self._write(
            space,
            np.repeat(address, columns),
            np.tile(np.arange(columns), len(address)),
            data.reshape(-1, self.config.elements),
        )

    def _residual(self, update: functions.Residual) -> np.ndarray:
        self.saturated |= update.saturated
        return update.values

    # Commands ---------------------------------------------------------------------------------------------------------

    def _load_image(self, f: Fields) -> None:
        p, rows, columns = f["patch"], f["grid_rows"], f["grid_columns"]
        index = np.indices((rows, columns, 3, p, p), sparse=True)
        address = index[2] * f["plane_bytes"] + (index[0] * p + index[3]) * f["row_bytes"] + index[1] * p + index[4]
        start = self.registers["image_address"] + f["offset"]
        pixels = self.memory[start + address].reshape(rows * columns, -1).astype(np.int64)
        words = -(-pixels.shape[1] // self.config.lanes)
        pixels = np.pad(pixels, ((0, 0), (0, words * self.config.lanes - pixels.shape[1])))
        target = f["destination_base"] + np.arange(len(pixels))[:, None] * f["destination_stride"] + np.arange(words)
        self._write_words("scratchpad", target, pixels)

    def _load_residual(self, f: Fields) -> None:
        start = self.registers["output_address" if f["stored"] else "weight_address"] + f["stream_address"]
        data = self.memory[start : start + 4 * f["words"] * self.config.lanes].copy().view("<i4")
        self._write_words("residual", f["destination_base"] + np.arange(f["words"]), data.astype(np.int64))

    def _stage(self, f: Fields) -> None:
        data = self._stream(f["stream_address"], f["words"] * self.config.lanes).view("i1")
        self._write_words("scratchpad", f["destination_base"] + np.arange(f["words"]), data.astype(np.int64))

    def _list(self, f: Fields) -> None:
        chunks = self._stream(f["stream_address"], f["words"] * self.config.chunk_bytes).reshape(f["words"], -1)
        rows = chunks[:, :2].copy().view("<u2")[:, 0]
        self.entries[f["destination_base"] + np.arange(f["words"])] = rows

    def _linear(self, f: Fields) -> None:
        signed, wide = not f["broadcast_unsigned"], bool(f["wide"])
        listed = self.entries[f["list"] : f["list"] + f["steps"]] & 0xFFFF
        order = listed if f["gather"] else np.arange(f["steps"])
        rows = self._rows_at(f["broadcast_base"] + order * f["broadcast_stride"], f["words"], signed, wide)
        if f["swapped"]:
            # The block has whole words of parameter sets.
            parameters = self._parameters(f["stream_address"], f["steps"]).columns()
            for window in range(f["windows"]):
                base = f["stationary_base"] + window * f["stationary_window"]
                held = self._rows(base, f["stationary_stride"], f["stationary_rows"], f["words"])
                held = np.pad(held, ((0, -len(held) % self.config.elements), (0, 0)))
                place = {"destination_base": f["destination_base"] + window * f["destination_window"]}
                self._finish({**f, **place}, _product(rows, held), parameters)
        else:
            block = (f["stream_address"], f["channels"], f["stationary_rows"], f["words"], wide)
            parameters, matrix = self._weights(*block)
            target = (f["destination_base"] + listed * f["destination_stride"]) & 0xFFFF
            self._finish(f, _product(rows, matrix), parameters, target if f["scatter"] else None)

    def _convolution(self, f: Fields) -> None:
        """A product whose broadcast rows are gathered tap by tap, for each group of tiles."""
        p, step, taps = self.config.elements, np.arange(f["steps"]), f["taps_y"] * f["taps_x"]
        row, column = np.divmod(step, f["output_columns"])
        line, tap = np.divmod(np.arange(taps), f["taps_x"])
        y = (row * f["stride_y"] - f["pad_top"])[:, None] + line
        x = (column * f["stride_x"] - f["pad_left"])[:, None] + tap
        inside_y, inside_x = np.clip(y, 0, f["input_rows"] - 1), np.clip(x, 0, f["input_columns"] - 1)
        word = f["broadcast_base"] + inside_y * f["line_stride"] + inside_x * f["broadcast_stride"]
        padded = ((inside_y != y) | (inside_x != x)) & (not f["clamp"])
        block = (f["stream_address"], f["stationary_rows"], f["stationary_rows"], f["words"], False)
        parameters, matrix = self._weights(*block)
        width, accumulators = self.numerics.activation_width, []
        for tile in range(len(matrix) // p):
            group = tile // (f["group_tiles"] or 32) * f["group_words"]
            values = self.scratchpad[(word + group)[:, :, None] + np.arange(f["tap_words"])]
            values = np.where(padded[:, :, None, None], f["padding"] & ((1 << width) - 1), values).reshape(
                len(step), -1
            )
            if not f["broadcast_unsigned"]:
                values = values - ((values >> (width - 1) & 1) << width)
            accumulators.append(_product(values, matrix[tile * p : (tile + 1) * p]))
        target = f["destination_base"] + (step - row) * f["destination_stride"] + row * f["destination_jump"]
        self._finish(f, np.concatenate(accumulators, axis=1), parameters, target & 0xFFFF)

    def _finish(
        self, f: Fields, accumulators: np.ndarray, parameters: Parameters, rows: np.ndarray | None = None
    ) -> None:
        """Requantise (steps, outputs) and write tile by tile, step by step; ``rows``: words of the output rows."""
        p, n = self.config.elements, self.numerics
        y = functions.requantise(accumulators, *parameters)
        steps, tiles = y.shape[0], y.shape[1] // p
        y = y.reshape(steps, tiles, p).transpose(1, 0, 2).reshape(-1, p)
        tile, step = (axis.reshape(-1) for axis in np.mgrid[:tiles, :steps])
        if rows is None:
            rows = f["destination_base"] + np.arange(steps) * f["destination_stride"]
        address = rows[step] + tile * p // self.config.lanes
        columns = tile * p % self.config.lanes // p
        match f["destination"]:
            case Destination.SCORE:
                self._write_scores(tile * steps + step, functions.saturate(y, n.score))
            case Destination.ACTIVATION:
                if (table := self._function(f["function"])) is not None:
                    y = functions.activate(y, table, f["function_multiplier"], f["function_shift"], n)
                else:
                    y = functions.saturate(y, n.activation)
                self._write("scratchpad", address, columns, y)
            case Destination.RESIDUAL_SET:
                self._write("residual", address, columns, self._residual(functions.residual_set(y, n)))
            case Destination.RESIDUAL_MULTIPLY:
                old = self.residual.reshape(-1, self.config.columns, p)[address, columns]
                update = functions.residual_multiply(old, y, self._function(f["function"]), f["function_shift"], n)
                self._write("residual", address, columns, self._residual(update))
            case _:
                old = self.residual.reshape(-1, self.config.columns, p)[address, columns]
                self._write("residual", address, columns, self._residual(functions.residual_add(old, y, n)))

    def _function(self, function: int) -> ActivationTable | None:
        tables = {Function.GELU: gelu_table(), Function.TABLE: self.table, Function.RELU: relu_table()}
        return tables.get(Function(function))

    def _load_table(self, f: Fields) -> None:
        data = self._stream(f["stream_address"], 4 * TABLE_ENTRIES).copy().view("<u4")
        self.table = ActivationTable.from_entries(data.tolist())

    def _write_scores(self, address: np.ndarray, data: np.ndarray) -> None:
        self.scores[address] = data
        self.recorder.add("score", len(address), address=address, data=data)

    def _attention(self, f: Fields) -> None:
        p, keys_count, words, values = self.config.elements, f["keys"], f["head_words"], f["value_words"]
        tiles = -(-f["queries"] // p)
        for job, (window, head, tile) in enumerate(product(range(f["windows"]), range(f["heads"]), range(tiles))):
            bases = {
                name: f[f"{name}_base"] + window * f[f"{name}_window"]
                for name in ("query", "key", "value", "destination")
            }
            first, count = tile * p, min(p, f["queries"] - tile * p)
            queries = self._rows(
                bases["query"] + head * words + first * f["query_stride"], f["query_stride"], count, words
            )
            keys = self._rows(bases["key"] + head * words, f["key_stride"], keys_count, words)
            if f["bias_words"]:
                row = (0 if f["bias_shared"] else head * tiles) + tile
                factors, bias = self._bias(f, row, count)
                queries, keys = np.hstack([queries, factors]), np.hstack([keys, bias])
            products = np.pad(_product(keys, queries), ((0, 0), (0, p - count)))
            scores = functions.requantise(products, 0, f["score_multiplier"], f["score_shift"], self.numerics.score)
            self._write_scores(job % 2 * self.config.max_tokens + np.arange(keys_count), scores)
            exponentials = functions.attention_exponentials(scores.T, self.numerics)
            self._record_exponentials(job % 2, exponentials.T)
            scale = functions.query_scale(exponentials, f["output_multiplier"], f["output_shift"], self.numerics)
            self.recorder.add("query", 1, address=np.array(job % 2), multiplier=scale.multiplier, shift=scale.shift)
            value = bases["value"] + head * values * self.config.lanes * f["value_stride"]
            key_words = -(-keys_count // self.config.lanes)
            channels = self._rows(value, f["value_stride"], values * self.config.lanes, key_words)
            y = _product(exponentials[:count], channels[:, :keys_count])
            y = functions.requantise(
                y, 0, scale.multiplier[:count, None], scale.shift[:count, None], self.numerics.activation
            )
            row = bases["destination"] + (first + np.arange(count)) * f["destination_stride"] + head * values
            self._write_words("scratchpad", np.arange(values)[:, None] + row, np.stack(np.split(y, values, axis=1)))

    def _bias(self, f: Fields, tile: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Factors of the first ``count`` elements, and a tile's words of bias for each key."""
        words, keys = f["bias_words"], f["keys"]
        first = f["bias_base"] + (self.config.elements + tile * keys) * words
        return self._rows(f["bias_base"], words, count, words), self._rows(first, words, keys, words)

    def _record_exponentials(self, buffer: int, data: np.ndarray) -> None:
        """``data`` (keys, P) into attention buffer ``buffer`` of the banks, exponential lanes at a time."""
        lanes, t = self.config.exponential_lanes, self.config.lanes
        key, group = (axis.reshape(-1) for axis in np.mgrid[: len(data), : self.config.elements // lanes])
        self.recorder.add(
            "exponential",
            len(key),
            group=group,
            address=self.config.attention_buffer(buffer) + self.config.query_words + key // t,
            lane=key % t,
            clear=key % t == 0,
            data=data.reshape(-1, lanes),
        )

    def _layernorm(self, f: Fields) -> None:
        t, n = self.config.lanes, self.numerics
        rows = np.arange(f["rows"])[:, None]
        words = np.arange(f["words"])
        channels, size = f["channels"], f["words"] * t
        x = self.residual[f["source_base"] + rows * f["source_stride"] + words].reshape(f["rows"], -1)[:, :channels]
        shifts = self._stream(f["stream_address"], size)[:channels].astype(np.int64)
        names = ("mean_multiplier", "mean_shift", "epsilon", "scale_multiplier", "shift", "wide_shift", "mode")
        norm = QuantisedLayerNorm(**{name: f[name] for name in names}, channel_shift=shifts)
        y = functions.layernorm(x, norm, n)
        narrow = np.pad(y.activation, ((0, 0), (0, size - channels)))
        self._write_words("scratchpad", f["destination_base"] + rows * f["destination_stride"] + words, narrow)
        if f["wide"]:
            wide = np.pad(y.wide, ((0, 0), (0, size - channels)))
            halves = np.stack([wide, wide >> n.activation_width], axis=-1)
            target = f["wide_base"] + rows * f["wide_stride"] + np.arange(2 * f["words"])
            self._write_words("scratchpad", target, halves)

    def _gate(self, f: Fields) -> None:
        tokens, experts = f["tokens"], f["experts"]
        tiles = -(-experts // self.config.elements)
        logits = self.scores[: tiles * tokens].reshape(tiles, tokens, -1).transpose(1, 0, 2).reshape(tokens, -1)
        routing = functions.gate(logits[:, :experts], f["top_k"], self.numerics)
        self.queues = functions.queues(routing, experts)
        expert = routing.indices.reshape(-1)
        before = expert[:, None] == np.arange(experts)
        position = (np.cumsum(before, axis=0) - 1)[np.arange(len(expert)), expert]
        token = np.repeat(np.arange(tokens), f["top_k"])
        bits = token | routing.weights.reshape(-1) << (self.config.max_tokens - 1).bit_length()
        self.entries[expert * self.config.max_tokens + position] = bits
        self.recorder.add(
            "queue", len(expert), expert=expert, position=position, token=token, weight=routing.weights.reshape(-1)
        )

    def _experts(self, f: Fields) -> None:
        for expert in range(f["experts"]):
            queue = self.queues[expert]
            if len(queue.tokens):
                self._expert(f, queue, f["stream_address"] + expert * f["stream_bytes"])

    def _expert(self, f: Fields, queue: functions.ExpertQueue, block: int) -> None:
        """First matrix from gathered tokens to the hidden rows, second one scattered onto the residual."""
        count, p, t = len(queue.tokens), self.config.elements, self.config.lanes
        rows = self._rows(f["source_base"], f["source_stride"], int(queue.tokens.max()) + 1, f["source_words"])
        parameters, matrix = self._weights(block, f["hidden_channels"], f["hidden_channels"], f["source_words"], False)
        hidden = {"destination": Destination.ACTIVATION}
        place = {"destination_base": f["hidden_base"], "destination_stride": f["hidden_stride"]}
        self._finish({**f, **hidden, **place}, _product(rows[queue.tokens], matrix), parameters)
        rows = self._rows(f["hidden_base"], f["hidden_stride"], count, f["hidden_words"], signed=False)
        second = (block + f["first_bytes"], f["channels"], f["channels"], f["hidden_words"], False)
        parameters, matrix = self._weights(*second)
        y = functions.requantise(_product(rows, matrix), *parameters)
        tiles = y.shape[1] // p
        y = y.reshape(count, tiles, p).transpose(1, 0, 2).reshape(-1, p)
        tile, token = np.repeat(np.arange(tiles), count), np.tile(queue.tokens, tiles)
        address = f["destination_base"] + token * f["destination_stride"] + tile * p // t
        columns = tile * p % t // p
        old = self.residual.reshape(-1, self.config.columns, p)[address, columns]
        weights = np.tile(queue.weights, tiles)[:, None]
        update = functions.residual_add_weighted(old, y, weights, self.numerics)
        self._write("residual", address, columns, self._residual(update))

    def _store(self, f: Fields) -> None:
        rows = f["source_base"] + np.arange(f["rows"])[:, None] * f["source_stride"] + np.arange(f["words"])
        data = np.ascontiguousarray(self.residual[rows].astype("<i4")).view(np.uint8).reshape(-1)
        start = self.registers["output_address"] + f["offset"]
        self.memory[start : start + len(data)] = data


def run(program: Program, image: np.ndarray, task: int) -> Result:
    """Run one frame of ``program`` on ``image`` (3, H, W) uint8 for ``task``."""
    emulator = Emulator(program.config, program.memory(image), program.registers(task))
    emulator.run()
    output = emulator.memory[program.map.output : program.map.output + program.map.output_bytes]
    return Result(emulator.recorder.traces(output), emulator.memory, emulator.saturated)
