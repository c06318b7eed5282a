"""What activation functions make of padding."""

from __future__ import annotations

from tessera.golden.integer import functions
from tessera.hw.formats import Numerics


def zero_activation(multiplier: int, shift: int, numerics: Numerics) -> int:
    """What GELU makes of a padded channel: the zero point."""
    return int(functions.gelu_activation(0, multiplier, shift, numerics))
