"""What an evaluation gives back: scores of every arithmetic, as JSON."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.common.summary import Summarised, Summary
from tessera.golden.checkpoint import Checkpoint
from tessera.golden.integer.parameters import QuantisedModel
from tessera.golden.network.operators import MixExperts
from tessera.hw.formats import Numerics
from tessera.sw.data.dataset import CLASSIFICATION, DEPTH, SEGMENTATION
from tessera.sw.data.datasets import DATASETS
from tessera.sw.evaluate.data import EvaluationData
from tessera.sw.quantiser.calibration import Calibration
from tessera.sw.quantiser.saturation import excesses, saturation_notices
from tessera.sw.results.scoring import FLOAT, Tally

_SCORES = {
    SEGMENTATION: (("mIoU", "mean_iou", ".4f"),),
    DEPTH: (("RMSE, m", "depth_rmse_m", ".3f"), ("abs-rel", "depth_abs_rel", ".4f")),
    CLASSIFICATION: (("top-1", "top1", ".2%"), ("top-5", "top5", ".2%")),
}


def shown_scores(scored: Collection[str]) -> list[tuple[str, str, str]]:
    """Heading, key and form of the scores against the truth of the kinds ``scored``, as tables show them."""
    return [score for kind, scores in _SCORES.items() if kind in scored for score in scores]


@dataclass(frozen=True, kw_only=True)
class MachineScores:
    """What a simulated machine adds to its scores.

    Parameters
    ----------
    preset:
        Name of the machine.
    bit_exact:
        Whether every frame was.
    trouble:
        What was wrong with each frame that was not.
    same_float, same_integer:
        Float and integer model on the same pictures.
    """

    preset: str
    bit_exact: bool
    trouble: list[str]
    same_float: Tally
    same_integer: Tally


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What one arithmetic scored.

    Parameters
    ----------
    tally:
        Its counts.
    numerics, calibration:
        Number formats, and the rule for ranges; None for float.
    machine:
        The simulated machine; None if none ran.
    """

    tally: Tally
    numerics: Numerics | None = None
    calibration: Calibration | None = None
    machine: MachineScores | None = None

    def to_dict(self, scored: Sequence[str]) -> dict[str, Any]:
        """An entry of ``results``, as docs/models.md has it; of the truth only the kinds ``scored``."""
        values = self.tally.to_dict(scored)
        if self.numerics is None:
            return {"arithmetic": FLOAT, **_against_truth(values)}
        facts = {
            "activation_width": self.numerics.activation_width,
            "residual_width": self.numerics.residual_width,
            "calibration": self.calibration,
        }
        if self.machine is None:
            return {"arithmetic": "integer", **facts, **values}
        machine = self.machine
        return {
            "arithmetic": "rtl",
            "preset": machine.preset,
            **facts,
            "bit_exact": machine.bit_exact,
            "trouble": machine.trouble,
            **{key: value for key, value in values.items() if key != "saturated"},
            "same_scenes": {
                FLOAT: _against_truth(machine.same_float.to_dict(scored)),
                "integer": machine.same_integer.to_dict(scored),
            },
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation(Summarised):
    """What a model scored on a dataset.

    Parameters
    ----------
    checkpoint, data:
        The model, and what it was scored on.
    quantised:
        One of its integer forms.
    results:
        Float first, then every integer model, then every machine.
    seconds:
        Time that it took.
    """

    checkpoint: Checkpoint
    data: EvaluationData
    quantised: QuantisedModel
    results: list[Scored]
    seconds: float

    @property
    def trouble(self) -> list[str]:
        """What was wrong with each frame that was not bit-exact."""
        return [line for result in self.results if result.machine is not None for line in result.machine.trouble]

    @property
    def notices(self) -> list[str]:
        """What a reader should know of the numbers; ``data`` has what concerns the pictures."""
        notices = [*self.data.calibration.notices, *self._without_truth(), *saturation_notices(self.quantised)]
        most = max((result.tally for result in self.results), key=lambda tally: tally.saturated)
        if most.saturated:
            count = f"{most.saturated:,} of {most.pictures:,}"
            notices.append(f"the residual stream saturated in {count} pictures (docs/numerics.md)")
        return notices

    def _without_truth(self) -> list[str]:
        """What was to be scored, and has truth in no pixel or, of depth, in few."""
        tally, name, found = self.results[0].tally, self.data.dataset.name, []
        scores = tally.scores
        if SEGMENTATION in self.data.scored and not scores.confusion.any():
            found.append(f"segmentation is not scored: no pixel of the {name} pictures has a label that counts")
        known = DATASETS.get(name)
        limit = f" within {known.depth_limit:g} m" if known and known.depth_limit else " within what is scored"
        hint = known.depth_hint if known else "are 'metres' and 'farthest' of [depth] right?"
        if DEPTH in self.data.scored and not scores.depth_pixels:
            found.append(f"depth is not scored: no pixel of the {name} pictures has a depth{limit}: {hint}")
        elif tally.far_pixels > scores.depth_pixels:
            share = scores.depth_pixels / (scores.depth_pixels + tally.far_pixels)
            found.append(
                f"depth is scored on few pixels: of those that have one in the {name} pictures, {share:.1%} have it"
                f"{limit}: {hint}"
            )
        return found

    def summary(self) -> Summary:
        """Scores of each arithmetic."""
        shown = (*shown_scores(self.data.scored), ("routing changes", "routing_changes", ".2%"))
        results = [result.to_dict(self.data.scored) for result in self.results]
        rows = tuple(
            (
                " ".join(str(found[key]) for key in ("arithmetic", "activation_width", "calibration") if key in found),
                f"{found['scenes']:,}",
                *("-" if found.get(key) is None else format(found[key], form) for _, key, form in shown),
            )
            for found in results
        )
        title = f"{self.checkpoint.network.name} on {self.data.dataset.name}, {self.data.dataset.split}"
        return Summary(title=title, columns=("pictures", *(name for name, _, _ in shown)), rows=rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form, as docs/models.md has it."""
        network, dataset = self.checkpoint.network, self.data.dataset
        return {
            "model": network.name,
            "weights": self.checkpoint.weights,
            "routing": self.checkpoint.routing if network.of_kind(MixExperts) else "none",
            "data": {
                "name": dataset.name,
                "split": dataset.split,
                "pictures": len(dataset),
                "height": network.image_height,
                "width": network.image_width,
                "classes": list(self.data.class_names),
                "scored": list(self.data.scored),
                "calibration": self.data.calibration.source,
                "notices": list(self.data.notices),
            },
            "calibration_pictures": self.data.calibration.to_dict(),
            "saturation": [excess.to_dict() for excess in excesses(self.quantised)],
            "notices": self.notices,
            "results": [result.to_dict(self.data.scored) for result in self.results],
            "seconds": self.seconds,
        }


def _against_truth(values: dict[str, Any]) -> dict[str, Any]:
    """The part of a tally that makes sense for the float model."""
    keys = ("scenes", "mean_iou", "class_iou", "depth_rmse_m", "depth_abs_rel", "top1", "top5")
    return {key: values[key] for key in keys}
