"""The bytes of safetensors files: the same for the same content, whoever writes them."""

from __future__ import annotations

import json

_LENGTH_BYTES = 8  # of the header's length, which comes first
_ALIGNMENT = 8  # of the tensors behind the header


def ordered(data: bytes) -> bytes:
    """Order the metadata of a safetensors file by name.

    The library orders tensors by type and name. It leaves metadata in random order, so that equal content would give
    another file in each process.

    Parameters
    ----------
    data:
        The whole file as ``safetensors.torch.save`` or ``safetensors.numpy.save`` returns it.

    Returns
    -------
    bytes
        The whole file with the same tensors and metadata.
    """
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = json.loads(data[_LENGTH_BYTES:start])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + data[start:]
