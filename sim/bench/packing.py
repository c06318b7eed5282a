"""Arrays to the bits of a port and back.

The port's description in ``ports.json`` decides; ``tessera.sim.verilator.verilog.Leaf`` documents it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Fields = np.ndarray | Mapping[str, np.ndarray]


def _bit_index(leaf: Mapping[str, Any]) -> np.ndarray:
    """Return the bit positions of a leaf's elements: shape dims + (width,)."""
    index = np.full((), leaf["offset"])
    for size, stride in zip(leaf["dims"], leaf["strides"], strict=True):
        index = index[..., None] + np.arange(size) * stride
    return index[..., None] + np.arange(leaf["width"])


def pack_beats(leaves: Sequence[Mapping[str, Any]], width: int, values: Fields) -> list[int]:
    """Pack arrays with one entry per beat into port values.

    Parameters
    ----------
    leaves
        Scalars and arrays of the port, as in ``ports.json``.
    width
        Bits of the port.
    values
        Array (beats, *dims) for a port that is one scalar or array; for a structure, a dictionary of such arrays.

    Raises
    ------
    ValueError
        Fields are missing or unknown, a shape is not (beats, *dims), or a value exceeds its bits.
    """
    given = values if isinstance(values, Mapping) else {"": values}
    paths = [leaf["path"] for leaf in leaves]
    if sorted(given) != sorted(paths):
        raise ValueError(f"got the fields {sorted(given)}, the port has {sorted(paths)}")
    beats = len(np.asarray(next(iter(given.values()))))
    bits = np.zeros((beats, -(-width // 8) * 8), dtype=np.uint8)
    for leaf in leaves:
        array = np.asarray(given[leaf["path"]]).astype(np.int64)
        if array.shape != (beats, *leaf["dims"]):
            raise ValueError(f"field {leaf['path']!r}: got shape {array.shape}, need {(beats, *leaf['dims'])}")
        low, high = (-(1 << leaf["width"] - 1), 1 << leaf["width"] - 1) if leaf["signed"] else (0, 1 << leaf["width"])
        if beats and array.size and (int(array.min()) < low or int(array.max()) >= high):
            raise ValueError(f"field {leaf['path']!r}: values {array.min()}..{array.max()} exceed {low}..{high - 1}")
        bits[:, _bit_index(leaf)] = (array[..., None] >> np.arange(leaf["width"])) & 1
    return [int.from_bytes(row.tobytes(), "little") for row in np.packbits(bits, axis=1, bitorder="little")]


def unpack_beats(leaves: Sequence[Mapping[str, Any]], width: int, values: Sequence[int]) -> Any:
    """Undo ``pack_beats``: return int64 arrays with one entry per beat, in a dictionary for a structure."""
    size = -(-width // 8)
    raw = np.frombuffer(b"".join(value.to_bytes(size, "little") for value in values), dtype=np.uint8)
    bits = np.unpackbits(raw.reshape(len(values), size), axis=1, bitorder="little").astype(np.int64)
    fields = {}
    for leaf in leaves:
        weights = 1 << np.arange(leaf["width"], dtype=np.int64)
        if leaf["signed"]:
            weights[-1] = -weights[-1]
        fields[leaf["path"]] = bits[:, _bit_index(leaf)] @ weights
    return fields[""] if list(fields) == [""] else fields
