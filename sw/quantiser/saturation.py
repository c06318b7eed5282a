"""What calibration saw beyond fixed formats: such values saturate, and the machine is bit-exact all the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tessera.golden.integer.parameters import PeakKind, QuantisedModel
from tessera.hw.formats import Format, Numerics
from tessera.sw.quantiser.scales import reach

_FEWEST_STEPS = 16
"""A residual stream that stays below so many of its steps is lost in rounding."""


@dataclass(frozen=True, kw_only=True)
class Excess:
    """A tensor that leaves its format.

    Parameters
    ----------
    layer:
        Where: ``layer03``, or the tensor's name.
    tensor:
        What: ``residual stream``, ``GELU inputs``, ``attention scores`` or ``gate logits``.
    largest:
        Largest magnitude that matters on the calibration pictures, in the float model.
    limit:
        Magnitude that the format holds less than.
    unit:
        Unit of both: ``octaves``, or nothing.
    """

    layer: str
    tensor: str
    largest: float
    limit: float
    unit: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return asdict(self)


def excesses(quantised: QuantisedModel) -> list[Excess]:
    """What leaves its format on the calibration pictures: by tensor, each with the layer where it is worst."""
    worst: dict[str, Excess] = {}
    for peak in quantised.peaks:
        words, form, unit = _format_of(peak.kind, _numerics(quantised))
        found = Excess(
            layer=peak.place or peak.tensor, tensor=words, largest=peak.largest, limit=reach(form), unit=unit
        )
        if found.largest >= found.limit and (words not in worst or worst[words].largest < found.largest):
            worst[words] = found
    return list(worst.values())


def saturation_notices(quantised: QuantisedModel) -> tuple[str, ...]:
    """The same in sentences, and one about a residual stream that is too small for its steps."""
    notices = [
        f"{one.tensor} beyond their format saturate: {one.layer} reaches {one.largest:.4g} on the calibration "
        f"pictures, the format holds less than {f'{one.limit:g} {one.unit}'.strip()} (docs/numerics.md)"
        for one in excesses(quantised)
    ]
    form = _numerics(quantised).residual
    streams = [peak.largest for peak in quantised.peaks if peak.kind == "stream"]
    largest, steps = max(streams, default=0.0), 2.0**form.fraction
    if 0 < largest * steps < _FEWEST_STEPS:
        notices.append(
            f"the residual stream is lost in rounding: it reaches {largest:.3g} on the calibration pictures, and one "
            f"step is {1 / steps:.3g} (docs/numerics.md)"
        )
    return tuple(notices)


def _format_of(kind: PeakKind, numerics: Numerics) -> tuple[str, Format, str]:
    """Words for what has a peak, its format, and its unit."""
    return {
        "stream": ("values of the residual stream", numerics.residual, ""),
        "function_input": ("GELU inputs", numerics.gelu_input, ""),
        "scores": ("attention scores", numerics.score, "octaves"),
        "gate_scores": ("gate logits", numerics.score, "octaves"),
    }[kind]


def _numerics(quantised: QuantisedModel) -> Numerics:
    return Numerics(activation_width=quantised.activation_width, residual_width=quantised.residual_width)
