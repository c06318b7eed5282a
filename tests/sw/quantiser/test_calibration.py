"""How ranges of activations are chosen: each rule on known distributions, what may clip, and clipping on the RTL."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tessera.common.cache import Cache
from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedModel
from tessera.sw.cli import app
from tessera.sw.data.pictures import Picture
from tessera.sw.quantiser import calibration
from tessera.sw.quantiser.calibration import Calibration, Magnitudes
from tessera.sw.quantiser.observation import Observation
from tessera.sw.quantiser.quantise import quantise
from tessera.sw.run import execute, prepare
from tessera.sw.run.target import Target
from tests.helpers.models import NUMERICS
from tests.helpers.quantised_models import float_network, images
from tests.helpers.schemas import document
from tests.helpers.small_checkpoints import save_small

N = NUMERICS[8]
RULES = list(Calibration)
SATURATED = 1 << 3
"""Of the status register: the residual stream clipped."""
BIN = 1 + 2**-5
"""A percentile is exact to within this factor upwards."""


def magnitudes(*parts: np.ndarray) -> Magnitudes:
    seen = Magnitudes(parts[0].shape[-1])
    for part in parts:
        seen.add(part)
    return seen


def squared_error(values: np.ndarray, ranges: np.ndarray, top: int) -> np.ndarray:
    """What rounding and clipping each channel of ``values`` really costs."""
    step = ranges / top
    return np.square(np.clip(np.rint(values / step), -top - 1, top) * step - values).mean(axis=0)


@cache
def distributions() -> dict[str, np.ndarray]:
    """Columns of 20,000 values from several distributions, one of them with an outlier."""
    generator = np.random.default_rng(3)
    size = (20_000, 3)
    outlier = generator.normal(size=size)
    outlier[777] = [60.0, -200.0, 1000.0]
    return {
        "uniform": generator.uniform(-3, 3, size),
        "normal": generator.normal(size=size) * [0.01, 1.0, 50.0],
        "laplace": generator.laplace(size=size),
        "heavy": generator.standard_t(2.5, size),
        "outlier": outlier,
        "sparse": np.where(generator.uniform(size=size) < 0.9, 0.0, generator.normal(size=size)),
    }


# Rules ----------------------------------------------------------------------------------------------------------------


def test_max_holds_everything_with_headroom() -> None:
    for values in distributions().values():
        expected = np.abs(values).max(axis=0) * 1.1
        assert np.array_equal(Calibration.MAX.ranges(magnitudes(values), N.activation, 1.1), expected)


def test_a_percentile_leaves_outliers_out() -> None:
    values = distributions()["outlier"]
    found = Calibration.PERCENTILE.ranges(magnitudes(values), N.activation, 1.1)
    assert (found < 8).all() and np.abs(values).max(axis=0).min() == 60.0
    assert ((np.abs(values) <= found).mean(axis=0) >= calibration.PERCENTILE / 100).all()


@pytest.mark.parametrize("name", distributions())
@pytest.mark.parametrize("percent", [50.0, 99.0, 99.9])
def test_a_percentile_is_exact_to_within_a_bin(name: str, percent: float) -> None:
    values = np.abs(distributions()[name])
    exact = np.quantile(values, percent / 100, axis=0, method="inverted_cdf")
    found = magnitudes(values).percentile(percent)
    assert (found >= exact).all() and (found <= np.maximum(exact * BIN, 2.0**-19)).all()
    assert (found <= values.max(axis=0)).all()


@pytest.mark.parametrize("name", distributions())
@pytest.mark.parametrize("width", NUMERICS)
def test_least_error_is_never_worse_than_max(name: str, width: int) -> None:
    values, form = distributions()[name], NUMERICS[width].activation
    ranges = {rule: rule.ranges(magnitudes(values), form, 1.1) for rule in RULES}
    errors = {rule: squared_error(values, ranges[rule], form.maximum) for rule in RULES}
    assert (errors[Calibration.LEAST_ERROR] <= errors[Calibration.MAX] * 1.001).all()
    # Nor is any range much better: neighbouring candidates are an eighth of an octave apart.
    tried = [squared_error(values, ranges[Calibration.MAX] * 2.0 ** (-n / 16), form.maximum) for n in range(128)]
    assert (errors[Calibration.LEAST_ERROR] <= np.min(tried, axis=0) * 1.15).all()


def test_least_error_clips_a_tail_but_not_what_would_cost_more_than_steps() -> None:
    largest, found = (
        {name: rule.ranges(magnitudes(distributions()[name]), N.activation, 1.1) for name in distributions()}
        for rule in (Calibration.MAX, Calibration.LEAST_ERROR)
    )
    for name in ("laplace", "heavy"):  # below the largest magnitude itself, that is
        assert (found[name] < largest[name] / 1.1).all(), name
    assert (found["uniform"] > 2.8).all() and (found["uniform"] <= 3.3).all()
    # A single value of 1000 among 20,000 of about 1: its square outweighs the rounding of all others.
    assert found["outlier"][2] > 900


def test_finer_steps_leave_less_reason_to_clip() -> None:
    seen = magnitudes(distributions()["heavy"])
    ranges = [Calibration.LEAST_ERROR.ranges(seen, NUMERICS[width].activation, 1.1) for width in (8, 12, 16)]
    assert (ranges[0] < ranges[1]).all() and (ranges[1] <= ranges[2]).all()


def test_a_zero_point_takes_its_share_of_the_steps() -> None:
    seen = magnitudes(np.full((10, 1), 1.0))
    assert seen.squared_errors(np.array([[2.0]]), 255) == pytest.approx(10 * (2 / 255) ** 2 / 12)
    assert seen.squared_errors(np.array([[2.0]]), 255, 3.0) == pytest.approx(10 * (5 / 255) ** 2 / 12)


def test_parts_count_as_the_whole_in_the_same_memory() -> None:
    values = distributions()["laplace"]
    whole, parts = magnitudes(values), magnitudes(*np.split(values, 8))
    assert np.array_equal(whole.maximum, parts.maximum) and np.array_equal(whole.percentile(99), parts.percentile(99))
    ranges = whole.maximum[None] / 2
    assert np.array_equal(whole.squared_errors(ranges, 127), parts.squared_errors(ranges, 127))
    held = [sum(array.nbytes for array in vars(seen).values()) for seen in (whole, magnitudes(values[:100]))]
    assert held[0] == held[1] < values.nbytes


@pytest.mark.parametrize("rule", RULES)
def test_extreme_magnitudes_and_silence_have_ranges(rule: Calibration) -> None:
    values = np.array([[0.0, 1e-12, 1e9], [0.0, 1e-12, -1e9]])
    ranges = rule.ranges(magnitudes(values), N.activation, 1.0)
    assert np.isfinite(ranges).all() and (ranges <= [0.0, 1e-12, 1e9]).all() and (ranges >= 0).all()


def test_without_a_histogram_only_the_maximum_is_known() -> None:
    seen = Magnitudes(1, histogram=False)
    seen.add(np.array([[3.0]]))
    assert Calibration.MAX.ranges(seen, N.activation, 1.0) == [3.0]
    with pytest.raises(ValueError, match="without a histogram"):
        Calibration.PERCENTILE.ranges(seen, N.activation, 1.0)


# Models ---------------------------------------------------------------------------------------------------------------


@cache
def quantised(rule: Calibration, width: int = 8) -> QuantisedModel:
    return quantise(float_network("mixed"), images(8), NUMERICS[width], calibration=rule)


@cache
def observed() -> Observation:
    return Observation(float_network("mixed"), images(8), histograms=True)


def test_scales_of_the_model_have_no_larger_error_than_max_gives() -> None:
    best, largest = quantised(Calibration.LEAST_ERROR), quantised(Calibration.MAX)
    for name in ("layer00.norm1", "layer01.norm1", "layer02.norm2", "norm_patches", "layer00.v", "layer02.v"):
        seen = observed().magnitudes[name]
        errors = [seen.squared_errors(model.scales[name][None] * 127, 127).sum() for model in (best, largest)]
        assert errors[0] < errors[1], name


def test_what_must_not_clip_keeps_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "PERCENTILE", 20.0)
    largest = quantised(Calibration.MAX).scales
    clipped = quantise(float_network("mixed"), images(8), N, calibration=Calibration.PERCENTILE).scales
    same = {name for name, scale in largest.items() if np.array_equal(scale, clipped[name])}
    kept = {"residual", "residual_attention", "scores", "exponentials", "gate_scores", "expert_weights"}
    assert same == {
        name for name in largest if name.split(".")[-1] in kept or name.startswith(("head", "embed", "pix"))
    }
    for layer in (1, 2):  # a step of a gate's input is a power of two times the norm's, so it may differ a little
        reached = observed().magnitudes[f"layer{layer:02d}.norm2"].maximum.max()
        assert clipped[f"layer{layer:02d}.norm2.wide"] * 32767 > reached
        assert (clipped[f"layer{layer:02d}.norm2"] * 127).max() < reached / 2


@pytest.mark.parametrize("rule", RULES)
def test_a_model_stays_close_whatever_the_rule(rule: Calibration) -> None:
    integer, picture = IntegerModel(quantised(rule, 12), NUMERICS[12]), images(1, first=70)[0]
    tensors = integer.run(picture, 0)
    reference = IntegerModel(quantised(Calibration.MAX, 16), NUMERICS[16])
    expected = reference.output(reference.run(picture, 0), 0)
    assert np.linalg.norm(integer.output(tensors, 0) - expected) < 0.1 * np.linalg.norm(expected)
    assert not tensors["saturated"]


# The machine ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "width", [8, pytest.param(12, marks=pytest.mark.soak), pytest.param(16, marks=pytest.mark.soak)]
)
def test_clipped_activations_are_bit_exact_on_the_machine_and_raise_no_flag(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "PERCENTILE", 80.0)  # a fifth of all activations saturates
    monkeypatch.setattr(prepare, "Cache", lambda: Cache(tmp_path / "cache"))
    model = save_small(tmp_path / "small.safetensors")
    prepared = prepare.prepare(
        Target(model=model, preset="tiny", activation_width=width, calibration=Calibration.PERCENTILE)
    )
    noise = np.random.default_rng(1).integers(0, 256, (3, 16, 32), dtype=np.uint8)
    golden, formats = prepared.integer.run(noise, 0), prepared.config.numerics
    ends = (formats.activation.minimum, formats.activation.maximum)
    kinds = ("norm1", "q", "k", "v", "attention", "norm2")
    shares = {kind: max(np.isin(golden[f"layer0{n}.{kind}"], ends).mean() for n in range(2)) for kind in kinds}
    assert min(shares.values()) > 0.002, shares
    hidden = [golden["layer00.hidden"], np.concatenate(golden["layer01.experts.expert_hidden"])]
    assert all((part == formats.unsigned_activation.maximum).mean() > 0.01 for part in hidden)
    result = execute.execute(prepared, [Picture(image=noise, source="noise")], range(2))
    assert result.bit_exact and [frame.result.counters["status"] & SATURATED for frame in result.frames] == [0, 0]
    assert result.to_dict()["calibration"] == "percentile"


# The commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [["quantize", "--out"], ["run", "--preset", "tiny", "--out"], ["compile", "--out"], ["evaluate", "--json"]],
)
def test_an_unknown_calibration_is_refused_by_every_command(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [*command, str(out), "--calibration", "median"])
    message = " ".join((result.output + result.stderr).split())
    assert result.exit_code == 2 and "Traceback" not in message and not out.exists()
    assert "unknown calibration 'median'; choose one of: max, percentile, least-error" in message


def test_a_rule_makes_another_file_which_keeps_its_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "Cache", lambda: Cache(tmp_path / "cache"))
    model = save_small(tmp_path / "small.safetensors")
    contents = []
    for rule in RULES:
        out = tmp_path / f"{rule}.safetensors"
        arguments = ["--model", str(model), "--scenes", "2", "--errors", "1", "--calibration", rule, "-o", str(out)]
        result = CliRunner().invoke(app, ["quantize", *arguments])
        assert result.exit_code == 0, result.output
        assert document(out.with_suffix(".json"))["calibration"] == rule
        contents.append(prepare.compile_file(Target(model=out, preset="tiny")).content)
        target = Target(model=model, preset="tiny", calibration=Calibration.named(rule))
        assert np.array_equal(contents[-1], prepare.prepare(target).program.content)
    assert not any(np.array_equal(contents[0], other) for other in contents[1:])
    arguments = ["--model", str(out), "--preset", "tiny", "--calibration", "percentile", "-o", str(tmp_path / "p")]
    result = CliRunner().invoke(app, ["compile", *arguments])
    assert result.exit_code == 2 and "has its ranges already" in " ".join(result.stderr.split())
