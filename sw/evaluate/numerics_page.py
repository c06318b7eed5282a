"""Accuracy of the fixed-point arithmetic: the tables and the figure of docs/numerics.md.

``python -m tessera.sw.evaluate.numerics_page`` measures the nonlinear functions over their whole input range and
rewrites the generated parts of docs/numerics.md and docs/images/numerics.png; with ``--checkpoint`` it also quantises
that model for every activation width and scores it on held-out scenes, with ``--seeded`` it measures the seeded model.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from tessera.common.arrays import Floats
from tessera.common.documents import replace_generated
from tessera.common.files import file_aside, write_text
from tessera.common.paths import PROJECT_ROOT
from tessera.common.progress import Progress
from tessera.golden import checkpoint
from tessera.golden.integer import functions
from tessera.golden.integer.parameters import QuantisedLayerNorm
from tessera.golden.seeded.gates import ROUTINGS
from tessera.hw.formats import ACTIVATION_WIDTHS, Format, Numerics
from tessera.hw.presets import preset
from tessera.sw.models.find import DEFAULT_ROUTING, SEEDED, find_model
from tessera.sw.quantiser.errors import layer_errors
from tessera.sw.quantiser.quantise import CALIBRATION_SCENES, calibration_images, quantise
from tessera.sw.quantiser.scales import scalar_multiplier
from tessera.sw.results.truth import told_tasks
from tessera.sw.run.prepare import float_and_integer

DOCUMENT = PROJECT_ROOT / "docs" / "numerics.md"
FIGURE = DOCUMENT.parent / "images" / "numerics.png"

_FORMATS = (
    *("activation", "unsigned_activation", "exponential", "residual", "weight", "wide"),
    *("pixel", "score", "gate_weight", "gelu_input", "gelu_output", "bias"),
)
_TOKENS = 129
_CHANNELS = 192
_SEED = 20240
_REPORT_SCENES = range(2_000_000, 2_000_020)  # neither trained, nor calibrated, nor scored on
_SEEDED_SCENES = range(2_000_000, 2_000_004)


def numerics_of(width: int) -> Numerics:
    """Formats of a machine with ``width``-bit activations, with the residual width that goes with it."""
    return preset("tiny").with_activation_width(width).numerics


def formats_table() -> str:
    """The number formats, as a Markdown table for each activation width."""
    rows = ["| format | " + " | ".join(f"A = {width}" for width in ACTIVATION_WIDTHS) + " |", "|---|---|---|---|"]
    machines = [numerics_of(width) for width in ACTIVATION_WIDTHS]
    for name in _FORMATS:
        rows.append(f"| `{name}` | " + " | ".join(_describe(getattr(machine, name)) for machine in machines) + " |")
    rows.append("| accumulator | " + " | ".join(f"signed {m.accumulator_width}" for m in machines) + " |")
    return "\n".join(rows)


def _describe(form: Format) -> str:
    fraction = f", {form.fraction} fraction" if form.fraction else ""
    return f"{'signed' if form.signed else 'unsigned'} {form.width}{fraction}"


def gelu_error() -> tuple[Floats, Floats]:
    """Every GELU input that does not saturate, and the error before the output's rounding."""
    numerics = Numerics()
    z = np.arange(numerics.gelu_input.minimum, numerics.gelu_input.maximum + 1)
    got = functions.gelu(z, numerics)
    x, kept = z / 2.0**numerics.gelu_input.fraction, got < numerics.gelu_output.maximum
    exact = np.array([0.5 * v * math.erfc(-v / math.sqrt(2)) for v in x])
    return x[kept], ((got - numerics.gelu_zero_point) / 2.0**numerics.gelu_output.fraction - exact)[kept]


def exp2_error(width: int) -> tuple[Floats, Floats]:
    """Every distance down to 2**-24, and the error of ``2**-distance`` in steps of the ``width``-bit result."""
    distance = np.arange(24 << Numerics().score.fraction)
    x = distance / 2.0 ** Numerics().score.fraction
    exact: Floats = 2.0 ** (width - x)
    return x, functions.exp2(distance, width, Numerics()) - exact


def reciprocal_error() -> tuple[Floats, Floats]:
    """Every 17-bit mantissa in [1, 2), and the relative error of its reciprocal."""
    x = np.arange(1 << 16, 1 << 17)
    got = functions.reciprocal(x)
    return x / 2.0**16, got.mantissa * 2.0 ** (-16.0 - got.exponent) * x.astype(np.float64) - 1


def reciprocal_square_root_error() -> tuple[Floats, Floats]:
    """Every 18-bit mantissa in [1, 4), and the relative error of its reciprocal square root."""
    x = np.arange(1 << 16, 1 << 18)
    got = functions.reciprocal_square_root(x << 16)
    return x / 2.0**16, got.mantissa * 2.0 ** (-16.0 - got.exponent) * np.sqrt(x) * 2.0**8 - 1


def softmax_error(width: int, deviation: float) -> Floats:
    """Errors of the probabilities of random rows of 129 scores that deviate by ``deviation`` octaves."""
    numerics = numerics_of(width)
    generator = np.random.default_rng([_SEED, width])
    scores = np.rint(generator.normal(0, deviation, (400, _TOKENS)) * 2**10).astype(np.int64)
    exponentials = functions.attention_exponentials(scores, numerics)
    scale = functions.query_scale(exponentials, 1 << 16, 16, numerics)
    got = exponentials * (scale.multiplier * 2.0**-scale.shift)[:, None]
    exact = 2.0 ** ((scores - scores.max(axis=1, keepdims=True)) / 2**10)
    return got - exact / exact.sum(axis=1, keepdims=True)


def layernorm_error(width: int) -> Floats:
    """Errors, in steps of the activation, of LayerNorm over random rows of 192 channels."""
    numerics = numerics_of(width)
    generator = np.random.default_rng([_SEED, width])
    deviation = np.exp2(generator.uniform(-4, 3, (400, 1))) * 2.0**numerics.residual.fraction
    x = np.rint(generator.normal(generator.normal(size=(400, 1)), 1, (400, _CHANNELS)) * deviation).astype(np.int64)
    scale = 5.0 / numerics.activation.maximum
    extra = max(0, math.ceil(math.log2(_CHANNELS / scale / 65536)))  # what the common multiplier cannot reach
    multiplier, shift = scalar_multiplier(_CHANNELS / scale / 2**extra)
    mean_multiplier, mean_shift = scalar_multiplier(1 / _CHANNELS)
    epsilon = round(1e-6 * _CHANNELS**2 * 4.0**numerics.residual.fraction)
    norm = QuantisedLayerNorm(
        mean_multiplier=mean_multiplier,
        mean_shift=mean_shift,
        epsilon=epsilon,
        scale_multiplier=multiplier,
        shift=shift,
        wide_shift=0,
        channel_shift=np.full(_CHANNELS, extra),
    )
    got = functions.layernorm(x, norm, numerics).activation
    centred = x - x.mean(axis=1, keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon / _CHANNELS**2) / scale
    inside = np.abs(exact) < numerics.activation.maximum
    return (got - exact)[inside]


def functions_table() -> str:
    """Worst and mean absolute errors against float64, as a Markdown table."""
    rows = ["| function | inputs | error in | worst | mean |", "|---|---|---|---|---|"]

    def row(name: str, inputs: str, unit: str, error: Floats) -> None:
        rows.append(f"| {name} | {inputs} | {unit} | {np.abs(error).max():.3g} | {np.abs(error).mean():.3g} |")

    row("GELU, before output rounding", "all of [-16, 15.8)", "absolute", gelu_error()[1])
    row("1 / S mantissa", "all of [1, 2)", "relative", reciprocal_error()[1])
    row("V ** -1/2 mantissa", "all of [1, 4)", "relative", reciprocal_square_root_error()[1])
    for width in ACTIVATION_WIDTHS:
        row(f"2 ** -d, {width} bits", "all of [0, 24)", "steps", exp2_error(width)[1])
    for width in ACTIVATION_WIDTHS:
        for deviation in (0.5, 3.0):
            inputs = f"{_TOKENS} scores, deviation {deviation:g} octaves"
            row(f"softmax, {width} bits", inputs, "probability", softmax_error(width, deviation))
    for width in ACTIVATION_WIDTHS:
        row(
            f"LayerNorm, {width} bits",
            f"{_CHANNELS} channels, deviation 2**-4 to 2**3",
            "steps",
            layernorm_error(width),
        )
    return "\n".join(rows)


def quantisation_table(path: Path, scenes: int, on_progress: Progress) -> str:
    """Errors and scores of a checkpoint quantised for every activation width, as a Markdown table."""
    model = checkpoint.load(path).model
    calibration = calibration_images(model.network)
    images = calibration_images(model.network, _REPORT_SCENES)
    rows = [
        "| model | residual error after the last layer | head error | routing changes | mIoU | depth RMSE |",
        "|---|---|---|---|---|---|",
    ]
    for number, width in enumerate(ACTIVATION_WIDTHS):
        on_progress(model.network.name, number / len(ACTIVATION_WIDTHS), f"{width} bits, {scenes} scenes")
        numerics = numerics_of(width)
        quantised = quantise(model, calibration, numerics)
        errors = layer_errors(model, quantised, images)
        scores = float_and_integer(model, quantised, scenes, told_tasks(model.network, "trained"))
        if width == ACTIVATION_WIDTHS[0]:
            rows.append(f"| float | | | | {_scores(scores['float'])}")
        last = " / ".join(f"{task['layers'][-1]['relative_l2']:.2%}" for task in errors.values())
        head = " / ".join(f"{task['head_relative_l2']:.2%}" for task in errors.values())
        routes = " / ".join(f"{task['routing_changes']:.2%}" for task in errors.values())
        name = f"A = {width}, residual {numerics.residual_width}"
        rows.append(f"| {name} | {last} | {head} | {routes} | {_scores(scores['integer'])}")
    return "\n".join(rows)


def seeded_table(name: str, on_progress: Progress) -> str:
    """Errors of a seeded model, as a Markdown table: every width, and every routing at the smallest."""
    rows = [
        "| routing | widths | residual error after the last layer | routing changes, mean | in the worst layer |",
        "|---|---|---|---|---|",
    ]
    for routing in ROUTINGS:
        model = checkpoint.load(find_model(name, routing)).model
        calibration, images = (calibration_images(model.network, of) for of in (CALIBRATION_SCENES, _SEEDED_SCENES))
        widths = ACTIVATION_WIDTHS if routing == DEFAULT_ROUTING else ACTIVATION_WIDTHS[:1]
        for number, width in enumerate(widths):
            on_progress(f"{name}, {routing}", number / len(widths), f"{width} bits")
            numerics = numerics_of(width)
            errors = layer_errors(model, quantise(model, calibration, numerics), images).values()
            last = " / ".join(f"{task['layers'][-1]['relative_l2']:.2%}" for task in errors)
            mean = " / ".join(f"{task['routing_changes']:.2%}" for task in errors)
            worst = " / ".join(
                f"{max(layer['routing_changes'] or 0 for layer in task['layers']):.2%}" for task in errors
            )
            rows.append(f"| {routing} | A = {width}, residual {numerics.residual_width} | {last} | {mean} | {worst} |")
    return "\n".join(rows)


def _scores(scores: dict) -> str:
    return f"{scores['mean_iou']:.4f} | {scores['depth_rmse_m']:.3f} m |"


def draw(path: Path) -> None:
    """Draw the errors over their input ranges."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.5), layout="constrained")
    panels = figure.subplot_mosaic([["gelu", "exp2", "root"], ["softmax", "norm", "norm"]])
    gelu, exponential, root, softmax, norm = panels.values()
    x, error = gelu_error()
    gelu.plot(x, error, lw=0.3)
    gelu.set(title="GELU before output rounding", xlabel="x", ylabel="error", xlim=(-7, 7))
    x, error = exp2_error(16)
    exponential.plot(x, error, lw=0.5)
    exponential.set(title="2^-d, 16 bits", xlabel="d (octaves)", ylabel="error (steps of 2^-16)", xlim=(0, 6))
    root.plot(*reciprocal_square_root_error(), lw=0.5, label="m^-1/2")
    root.plot(*reciprocal_error(), lw=0.5, label="1/m")
    root.set(title="Reciprocal and reciprocal square root", xlabel="mantissa m", ylabel="relative error")
    root.legend(loc="upper right")
    deviations = np.linspace(0.1, 8, 40)
    for width in ACTIVATION_WIDTHS:
        softmax.semilogy(deviations, [np.abs(softmax_error(width, d)).max() for d in deviations], label=f"A = {width}")
    softmax.set(title="Softmax over 129 keys", xlabel="deviation of scores (octaves)", ylabel="worst probability error")
    softmax.legend(loc="lower right")
    for width in ACTIVATION_WIDTHS:
        norm.hist(layernorm_error(width), bins=120, histtype="step", log=True, label=f"A = {width}")
    norm.set(title="LayerNorm of 192 channels", xlabel="error (steps of the activation)", ylabel="values")
    norm.legend(loc="upper right")
    with file_aside(path) as aside:
        figure.savefig(aside, dpi=110)


def _put(document: str, name: str, text: str) -> str:
    return replace_generated(document, name, text, "docs/numerics.md")


def _told(stage: str, fraction: float, detail: str) -> None:
    print(f"{stage}: {detail}")


def main() -> None:
    """Rewrite the generated parts of the document, and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="also quantise and score this checkpoint")
    parser.add_argument("--scenes", type=int, default=200, help="held-out scenes to score on (default 200)")
    parser.add_argument("--seeded", action="store_true", help="also measure the seeded model, in every routing")
    options = parser.parse_args()
    document = DOCUMENT.read_text(encoding="utf-8")
    document = _put(document, "formats", formats_table())
    document = _put(document, "functions", functions_table())
    if options.checkpoint:
        table = quantisation_table(options.checkpoint, options.scenes, _told)
        document = _put(document, "quantisation", table)
    if options.seeded:
        document = _put(document, "seeded", seeded_table(SEEDED[0], _told))
    write_text(DOCUMENT, document)
    draw(FIGURE)
    print(f"wrote {DOCUMENT} and {FIGURE}")


if __name__ == "__main__":
    main()
