"""The quantiser: constants it makes, what it folds, what it guarantees, what it reports."""

import copy
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedAttention, QuantisedExperts, QuantisedModel, QuantisedProduct
from tessera.golden.integer.steps import AttentionStep, ExpertsStep, ProductStep
from tessera.golden.model import seeded
from tessera.golden.network.compute import FloatNetwork
from tessera.hw.formats import Numerics
from tessera.sw.quantiser.attention import value_scales
from tessera.sw.quantiser.errors import layer_errors
from tessera.sw.quantiser.norms import quantise_norm
from tessera.sw.quantiser.quantise import calibration_images, quantise
from tessera.sw.quantiser.scales import (
    LinearInput,
    multiplier_and_shift,
    quantise_linear,
    scalar_multiplier,
)
from tests.helpers.models import NUMERICS
from tests.helpers.quantised_models import CONFIGS, float_model, float_network, images, quantised_model

N = NUMERICS[8]


def changed(name: str, change) -> FloatNetwork:
    """A copy of a seeded model after ``change(model)``."""
    model = copy.deepcopy(float_model(name))
    with torch.no_grad():
        change(model)
    return model.as_network()


@given(st.floats(1e-9, 65536))
def test_multipliers_are_normalised_and_close(ratio: float):
    multiplier, shift = scalar_multiplier(ratio)
    assert 2**15 <= multiplier <= 2**16 and 0 <= shift <= 63
    assert abs(Fraction(multiplier, 2**shift) / Fraction(ratio) - 1) <= Fraction(1, 2**16)


def test_multipliers_of_extreme_ratios():
    assert scalar_multiplier(0.0) == (0, 0)
    assert scalar_multiplier(65536.0) == (65536, 0)
    multiplier, shift = scalar_multiplier(2.0**-60)
    assert multiplier * 2.0**-shift == 2.0**-60
    with pytest.raises(ValueError, match="70e\\+04 steps|7e\\+04 steps of the output, more than 65,536"):
        multiplier_and_shift([1.0, 70000.0])


INPUT = LinearInput(form=N.activation, scale=0.02)


def linear(weight, bias, source=INPUT, **options):
    defaults = {"output_scale": 0.05, "numerics": N}
    return quantise_linear(np.asarray(weight, float), bias, source, **(defaults | options))


def test_weights_use_each_channel_s_range_and_outputs_come_close():
    generator = np.random.default_rng(1)
    weight = generator.normal(size=(20, 64)) * np.exp(generator.normal(size=(20, 1)))
    bias, x = generator.normal(size=20), generator.integers(-128, 128, (50, 64))
    layer = linear(weight, bias)
    assert (np.abs(layer.weight).max(axis=1) == 127).all()
    got = (x @ layer.weight.T + layer.bias) * layer.multiplier * 0.5**layer.shift * 0.05
    exact = x * 0.02 @ weight.T + bias
    assert np.linalg.norm(got - exact) < 0.01 * np.linalg.norm(exact)


def test_a_zero_point_leaves_no_trace():
    weight = np.random.default_rng(2).normal(size=(6, 30)) + 0.5
    zero = 2786 / 2**14
    layer = linear(weight, 0.0, LinearInput(form=N.unsigned_activation, scale=zero / 40, zero_point=zero))
    assert (np.full(30, 40) @ layer.weight.T + layer.bias == 0).all()


def test_dead_channels_become_all_zero_and_bias_only_channels_keep_their_bias():
    layer = linear(np.zeros((2, 5)), [0.0, 3.0])
    assert [int(v[0]) for v in (layer.bias, layer.multiplier, layer.shift)] == [0, 0, 0]
    assert abs(layer.bias[1] * layer.multiplier[1] * 0.5 ** layer.shift[1] * 0.05 - 3.0) < 1e-3


@pytest.mark.parametrize("inputs", [8, 96, 3072])
@pytest.mark.parametrize("width", NUMERICS)
def test_no_input_overflows_the_accumulator_and_no_bias_its_field(width: int, inputs: int):
    numerics = NUMERICS[width]
    weight = np.random.default_rng(inputs).normal(size=(4, inputs))
    weight[1], weight[2] = 1.0, np.sign(weight[2])
    for form, weight_form in (
        (numerics.activation, numerics.weight),
        (numerics.unsigned_activation, numerics.weight),
        (numerics.wide, numerics.wide),
    ):
        layer = linear(
            weight,
            [0.0, 1e3, -1e6, 1e7],
            LinearInput(form=form, scale=1e-4),
            output_scale=1.0,
            numerics=numerics,
            weight_format=weight_form,
        )
        largest = max(-form.minimum, form.maximum)
        total = np.abs(layer.weight.astype(np.int64)).sum(axis=1) * largest + np.abs(layer.bias)
        assert (total < 2 ** (numerics.accumulator_width - 1)).all()
        assert np.abs(layer.bias).max() < 2**31


def test_gates_keep_more_than_eight_bits():
    model = quantised_model("mixed")
    for step in model.plan.of_kind(ExpertsStep):
        for gate in model.of(step.name, QuantisedExperts).gates:
            assert np.abs(gate.weight).max(axis=1).min() > 4000


@pytest.mark.parametrize("width", NUMERICS)
def test_norm_scales_hold_the_calibrated_range(width: int):
    generator, numerics = np.random.default_rng(5), NUMERICS[width]
    maximum, samples = generator.uniform(0.5, 9.0, 96), generator.normal(size=(40, 96))
    norm = quantise_norm(maximum * 1.1, samples, generator.normal(size=(64, 96)), numerics=numerics)
    parameters = norm.parameters
    steps = maximum / norm.scale
    assert (steps <= numerics.activation.maximum).all() and steps.max() > numerics.activation.maximum / 2.3
    assert maximum.max() / norm.wide_scale <= 32767 and maximum.max() / norm.wide_scale > 3000
    assert 0 <= parameters.channel_shift.min() and parameters.channel_shift.max() <= 7
    assert 2**15 <= parameters.scale_multiplier <= 2**16 and 0 <= parameters.epsilon < 2**32
    assert (
        norm.scale[0] == 96 * 2.0**parameters.shift / parameters.scale_multiplier / 2.0 ** parameters.channel_shift[0]
    )


def test_small_channels_get_finer_steps():
    generator = np.random.default_rng(6)
    maximum = np.full(32, 4.0)
    maximum[:4] = 0.25
    samples, weight = generator.normal(size=(100, 32)) * maximum / 4, generator.normal(size=(48, 32))
    shifts = quantise_norm(maximum, samples, weight, numerics=N).parameters.channel_shift
    assert shifts[:4].min() > shifts[4:].max()


def test_columns_of_large_weights_get_finer_steps_where_weights_limit_precision():
    generator, gain = np.random.default_rng(6), np.ones(32)
    gain[4:8] = 16.0
    samples, weight = generator.normal(size=(100, 32)), generator.normal(size=(48, 32)) * gain
    norm = quantise_norm(np.full(32, 4.0), samples, weight, numerics=NUMERICS[12])
    shifts = norm.parameters.channel_shift
    assert shifts[4:8].min() > max(shifts[:4].max(), shifts[8:].max())


def test_the_key_bias_and_the_norm_s_offset_on_keys_leave_no_trace():
    def shift_keys(model):
        model.blocks[0].attn.qkv.bias[48:96] += torch.linspace(-50, 50, 48)

    def part(model: QuantisedModel, name: str):
        return model.of(f"layer00.{name}", QuantisedProduct).linear

    with_bias = quantise(changed("mixed", shift_keys), images(8), N)
    for field in ("weight", "bias", "multiplier", "shift"):
        got = getattr(part(with_bias, "k"), field).astype(float)
        assert got == pytest.approx(getattr(part(quantised_model("mixed"), "k"), field), rel=1e-4, abs=1)
    assert not part(with_bias, "k").bias.any() and not part(with_bias, "v").bias.any()


def test_the_value_bias_moves_into_the_projection():
    def shift_values(model):
        model.blocks[0].attn.qkv.bias[96:] += 3.0

    model = changed("dense", shift_values)
    report = layer_errors(model, quantise(model, images(8), NUMERICS[12]), images(1, first=99))
    assert max(layer["relative_l2"] for layer in report["depth"]["layers"]) < 0.06


def test_the_task_embedding_lies_in_the_gate_s_bias_alone():
    first, second = quantised_model("conditioned").of("layer01.residual", QuantisedExperts).gates
    real = [gate.weight * (gate.multiplier * 0.5**gate.shift)[:, None] for gate in (first, second)]
    assert np.abs(real[0] - real[1]).max() < 1e-3 * np.abs(real[0]).max()
    offsets = [gate.bias * gate.multiplier * 0.5**gate.shift for gate in (first, second)]
    assert np.abs(offsets[0] - offsets[1]).min() > 100  # octaves / 1024


def test_logits_beyond_the_residual_s_range_are_scaled_by_a_power_of_two():
    def enlarge(model):
        model.heads["depth"].weight *= 100
        model.heads["depth"].bias *= 100

    model = changed("mixed", enlarge)
    quantised = quantise(model, images(8), NUMERICS[12])
    ratio = quantised.scales["head.depth"] * 2**13
    assert ratio > 1 and np.log2(ratio) == round(np.log2(ratio))
    assert quantised.scales["head.segmentation"] * 2**13 == 1
    report = layer_errors(model, quantised, images(1, first=99))
    assert report["depth"]["head_relative_l2"] < 0.2 and not report["depth"]["saturated"]


def test_multipliers_of_every_layer_are_legal():
    for name in ("mixed", "conditioned", "features"):
        for width in NUMERICS:
            model = quantised_model(name, width)
            for step in model.plan.of_kind(ProductStep):
                part = model.of(step.name, QuantisedProduct).linear
                assert part.multiplier.min() >= 0 and part.multiplier.max() <= 65536
                assert part.shift.min() >= 0 and part.shift.max() <= 63
                assert np.abs(part.weight).max() <= 127
            for step in model.plan.of_kind(AttentionStep):
                attention = model.of(step.name, QuantisedAttention)
                assert 2**15 <= attention.score_multiplier <= 2**16
                assert 2**15 <= attention.output_multiplier <= 2**16


@pytest.mark.parametrize(
    ("options", "message"),
    [({"images": images(1)[:0]}, "no calibration images"), ({"headroom": 0.9}, "headroom is 0.9; choose at least 1")],
)
def test_impossible_requests_are_refused(options: dict, message: str):
    arguments = {"images": images(1), "headroom": 1.0} | options
    with pytest.raises(ValueError, match=message):
        quantise(float_network("mixed"), arguments["images"], N, headroom=arguments["headroom"])


def test_embeddings_beyond_the_residual_are_refused():
    def enlarge(model):
        model.pos_embed[0, 3, 5] = 70.0

    with pytest.raises(ValueError, match="cls_token, pos_embed reach 7"):
        quantise(changed("mixed", enlarge), images(1), N)


def test_heads_without_a_final_norm_read_the_stream_in_its_own_scale():
    model = seeded(replace(CONFIGS["mixed"], final_norm=False), 0).as_network()
    report = layer_errors(model, quantise(model, images(8), NUMERICS[12]), images(1, first=99))
    assert max(task["head_relative_l2"] for task in report.values()) < 0.1


def test_quantising_is_deterministic():
    again = quantise(float_network("mixed"), images(8), N)
    image = images(1, first=55)[0]
    expected = IntegerModel(quantised_model("mixed"), N).run(image, 0)["head.segmentation"]
    assert (IntegerModel(again, N).run(image, 0)["head.segmentation"] == expected).all()


@cache
def report() -> dict:
    return layer_errors(float_network("mixed"), quantised_model("mixed"), images(2, first=70))


def test_the_report_has_every_layer_and_task():
    assert report().keys() == {"segmentation", "depth"}
    for task in report().values():
        assert [layer["routing_changes"] is None for layer in task["layers"]] == [True, False, False]
        assert 0 < task["head_relative_l2"] < 0.2 and task["saturated"] == 0
        assert all(0 < layer["relative_l2"] < 0.12 and 0.99 < layer["cosine"] <= 1 for layer in task["layers"])


def test_the_report_notices_a_damaged_model():
    quantised = copy.deepcopy(quantised_model("mixed"))
    quantised.of("layer01.residual", QuantisedExperts).gates[0].bias[:] += np.arange(5) * 10**7
    damaged = layer_errors(float_network("mixed"), quantised, images(2, first=70))
    assert damaged["segmentation"]["routing_changes"] > 2 * report()["segmentation"]["routing_changes"]
    assert (
        damaged["segmentation"]["layers"][2]["relative_l2"] > 2 * report()["segmentation"]["layers"][2]["relative_l2"]
    )
    assert damaged["depth"] == report()["depth"]


def test_calibration_images_have_the_model_s_size():
    assert calibration_images(float_network("mixed").network, range(2)).shape == (2, 3, 32, 48)
    assert Numerics() == N


def test_scales_of_values_and_attention_hold_both_ranges():
    generator = np.random.default_rng(8)
    values = np.exp(generator.normal(0, 0.5, 40))
    attention = values * generator.uniform(0.05, 1.0, 40)
    for columns in (np.ones(40), np.exp(generator.normal(0, 2, 40))):
        scale, ratio = value_scales(values, attention, columns)
        assert (scale >= values).all() and (scale * ratio >= attention * (1 - 1e-12)).all()
        plain = (columns * values**2).sum() * ((attention / values).max() ** 2 + 0.1)
        assert (columns * scale**2).sum() * (ratio**2 + 0.1) < plain
    assert value_scales(values, values * 2, np.ones(40))[1] == 1.0
