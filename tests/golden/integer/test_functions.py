"""The vectorised arithmetic against its definition element by element, and against float64."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.golden.integer import functions
from tessera.golden.integer.parameters import QuantisedLayerNorm
from tessera.hw import tables
from tessera.hw.formats import ACTIVATION_WIDTHS, Numerics
from tessera.hw.isa import NormMode
from tests.golden.integer import reference
from tests.helpers.models import NUMERICS

N = NUMERICS[8]


def test_round_shift_rounds_ties_up_and_leaves_shift_0_alone():
    assert functions.round_shift([-3, -2, -1, 0, 1, 2, 3], 1).tolist() == [-1, -1, 0, 0, 1, 1, 2]
    assert functions.round_shift([-6, -5, -2, 2, 5, 6], 2).tolist() == [-1, -1, 0, 1, 1, 2]
    assert functions.round_shift([-7, 7], 0).tolist() == [-7, 7]


def test_round_shift_equals_the_exact_quotient_for_small_values():
    x = np.arange(-300, 301)
    for shift in range(11):
        assert functions.round_shift(x, shift).tolist() == [reference.rs(int(v), shift) for v in x]


@given(st.integers(-(2**61), 2**61), st.integers(0, 63))
def test_round_shift_equals_the_exact_quotient(x: int, shift: int):
    assert functions.round_shift(x, shift) == reference.rs(x, shift)


@given(
    st.integers(-(2**41), 2**41 - 2**31), st.integers(-(2**31), 2**31 - 1), st.integers(0, 65536), st.integers(0, 63)
)
def test_requantise_of_any_accumulator(acc: int, bias: int, multiplier: int, shift: int):
    expected = reference.rs((acc + bias) * multiplier, shift)
    assert functions.requantise(acc, bias, multiplier, shift) == expected
    assert functions.requantise(acc, bias, multiplier, shift, N.residual) == reference.clip(expected, N.residual)


def test_saturate_uses_the_whole_range():
    assert functions.saturate([-129, -128, 127, 128], N.activation).tolist() == [-128, -128, 127, 127]
    assert functions.saturate([-1, 0, 255, 256], N.unsigned_activation).tolist() == [0, 0, 255, 255]


def test_residual_operations_saturate_twice_and_tell():
    top, bottom = N.residual.maximum, N.residual.minimum
    assert functions.residual_set([top, bottom], N) == (pytest.approx([top, bottom]), False)
    assert functions.residual_set([top + 1], N).saturated
    added = functions.residual_add([bottom, 5], [top + 100, -7], N)
    assert added.values.tolist() == [bottom + top, -2] and added.saturated
    added = functions.residual_add([top], [1], N)
    assert added.values.tolist() == [top] and added.saturated
    assert not functions.residual_add([top], [0], N).saturated


def test_weighted_contributions_round_half_up_on_their_own():
    added = functions.residual_add_weighted([10, 10, 10, 10], [1, -1, 3, -3], [[32768], [65535]], N)
    assert added.values.tolist() == [[11, 10, 12, 9], [11, 9, 13, 7]] and not added.saturated
    assert functions.residual_add_weighted([N.residual.maximum], [2], [65535], N).saturated


def test_gelu_of_every_input():
    z = np.arange(-32768, 32768)
    got = functions.gelu(z, N)
    assert got.tolist() == [reference.gelu(int(v), N) for v in z]
    assert got.min() >= 0
    exact = np.array([0.5 * v * math.erfc(-v / math.sqrt(2)) for v in z / 2048])
    unclipped = got < N.gelu_output.maximum
    error = np.abs((got - N.gelu_zero_point) / 2**14 - exact)[unclipped]
    assert error.max() < 1.3e-4 and unclipped[z < 31000].all()


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


TANH_SCALE = math.sqrt(2 / math.pi)
CURVES = {
    "gelu": (lambda x: x * np.vectorize(math.erfc)(-x / math.sqrt(2)) / 2, 2.04),
    "gelu_tanh": (lambda x: x / 2 * (1 + np.tanh(TANH_SCALE * (x + 0.044715 * x**3))), 1.29),
    "quick_gelu": (lambda x: x * _sigmoid(1.702 * x), 1.26),
    "silu": (lambda x: x * _sigmoid(x), 1.0),
    "hardswish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), 0.84),
    "relu": (lambda x: np.maximum(x, 0), 0.0),
    "sigmoid": (_sigmoid, 0.66),
    "hard_sigmoid": (lambda x: np.clip(x / 6 + 0.5, 0, 1), 0.34),
}
"""The functions in float64, and the largest error in steps of the output format: half a step is its own rounding."""


@pytest.mark.parametrize("name", CURVES)
def test_activation_of_every_input(name: str):
    table = getattr(tables, f"{name}_table")()
    z = np.arange(-32768, 32768)
    got = functions.activation(z, table, N)
    entries, zero = table.entries(), table.zero_point
    expected = [reference.clip(reference.curve(v, entries) + zero, N.gelu_output) for v in z.tolist()]
    assert got.tolist() == expected
    assert got.min() in (0, 1), "the zero point is no larger than it must be"
    exact, bound = CURVES[name]
    unclipped = got < N.gelu_output.maximum
    error = np.abs(got - table.zero_point - exact(z / 2048) * 2**14)[unclipped]
    assert error.max() <= bound and unclipped[z < 32768 - (table.zero_point + 7) // 8].all()


@pytest.mark.parametrize("name", CURVES)
def test_tables_in_memory_are_the_tables(name: str):
    table, z = getattr(tables, f"{name}_table")(), np.arange(-32768, 32768)
    entries = table.entries()
    assert len(entries) == tables.TABLE_ENTRIES and max(entries) < 2**32
    again = tables.ActivationTable.from_entries(entries)
    assert again.entries() == entries
    assert np.array_equal(functions.activation(z, again, N), functions.activation(z, table, N))


@pytest.mark.parametrize("name", ["", "silu", "sigmoid", "gelu"])
@pytest.mark.parametrize("width", ACTIVATION_WIDTHS)
def test_residual_multiply_is_the_rounded_product(width: int, name: str):
    numerics, generator = NUMERICS[width], np.random.default_rng(width)
    table, residual = getattr(tables, f"{name}_table")() if name else None, NUMERICS[width].residual
    y = np.concatenate([generator.integers(-40000, 40000, 300), [-32769, -32768, 32767, 2**30, -3, -1, 0, 1]])
    old = generator.integers(residual.minimum, residual.maximum + 1, len(y))
    old[:40] = np.resize([residual.minimum, residual.maximum, -1, 1], 40)
    entries = table.entries() if table else []
    for shift in (0, 12, 13, 20, 63):
        got = functions.residual_multiply(old, y, table, shift, numerics)
        products = []
        for value, a in zip(old.tolist(), y.tolist(), strict=True):
            z = reference.clip(a, numerics.gelu_input)
            factor = reference.rs(reference.curve(z, entries) if table else z * 8, 1)
            products.append(reference.rs(factor * value, shift))
        assert got.values.tolist() == [reference.clip(product, residual) for product in products]
        assert got.saturated == (got.values.tolist() != products)
    assert functions.residual_multiply([3, -3], [1024, 1024], None, 13, numerics).values.tolist() == [2, -1]


@pytest.mark.parametrize("width", ACTIVATION_WIDTHS)
def test_gelu_activation_saturates_its_input_and_output(width: int):
    numerics, y = NUMERICS[width], np.array([-(2**40), -40000, -32769, -5, 0, 7, 32767, 32768, 2**40])
    got = functions.gelu_activation(y, 40000, 26 - width, numerics)
    for value, a in zip(got.tolist(), y.tolist(), strict=True):
        g = reference.gelu(reference.clip(a, numerics.gelu_input), numerics)
        assert value == reference.clip(reference.rs(g * 40000, 26 - width), numerics.unsigned_activation)


@pytest.mark.parametrize("width", ACTIVATION_WIDTHS)
def test_exp2_of_every_distance(width: int):
    distance = np.concatenate([np.arange(24 * 1024), [2**18 - 1, 2**18, 2**19 - 1]])
    got = functions.exp2(distance, width, N)
    assert got.tolist() == [reference.exp2(int(d), width, N) for d in distance]
    assert got[0] == 2**width - 1 and got[-1] == 0
    assert (np.diff(got) <= 0).all()
    error = np.abs(got - np.minimum(2.0 ** (width - distance / 1024), 2**width - 1))
    assert error.max() <= {8: 0.52, 12: 0.77, 16: 4.5}[width]


def test_reciprocal_of_every_sum_of_17_bits_and_of_large_ones():
    generator = np.random.default_rng(3)
    totals = np.concatenate([np.arange(1, 2**17), generator.integers(2**17, 2**26, 2000)])
    got = functions.reciprocal(totals)
    for total, mantissa, exponent in zip(
        totals[::7].tolist(), got.mantissa[::7].tolist(), got.exponent[::7].tolist(), strict=True
    ):
        assert (mantissa, exponent) == reference.reciprocal(total)
    assert 32768 <= got.mantissa.min() and got.mantissa.max() == 65536
    relative = got.mantissa * 2.0**-16 * 2.0**-got.exponent * totals - 1
    assert np.abs(relative).max() < 4e-5


def test_reciprocal_square_root_of_small_and_of_huge_integers():
    generator = np.random.default_rng(4)
    huge = [int(v) << shift for shift in (3, 12, 30, 40) for v in generator.integers(1, 2**30, 200)]
    edges = [4**e + d for e in range(33) for d in (-1, 0, 1) if 4**e + d >= 1]
    values = [*range(1, 2**12), *huge, *edges]
    got = functions.reciprocal_square_root(np.array(values, object))
    for value, mantissa, exponent in zip(values, got.mantissa.tolist(), got.exponent.tolist(), strict=True):
        assert (mantissa, exponent) == reference.reciprocal_square_root(value)
        assert abs(mantissa * 2.0**-16 * 2.0**-exponent * math.sqrt(value) - 1) < 4e-5


@pytest.mark.parametrize("function", [functions.reciprocal, functions.reciprocal_square_root])
def test_reciprocals_refuse_zero(function):
    with pytest.raises(ValueError, match="at least 1"):
        function(np.array([3, 0]))


def test_query_scale_is_the_reciprocal_sum_times_the_output_ratio():
    exponentials = np.array([[255, 0, 0], [255, 255, 255], [255, 1, 0]])
    scale = functions.query_scale(exponentials, 40000, 14, N)
    exact = [Fraction(40000, 2**14 * int(total)) for total in exponentials.sum(axis=1)]
    for multiplier, shift, ratio in zip(scale.multiplier.tolist(), scale.shift.tolist(), exact, strict=True):
        assert abs(Fraction(multiplier, 2**shift) / ratio - 1) < 1e-4
    assert functions.query_scale(exponentials, 40000, 60, N).shift.tolist() == [63, 63, 63]


def test_attention_exponentials_are_relative_to_each_query_s_maximum():
    scores = np.array([[-131072, 131071, 131071 - 1024], [-5000, -5000, -5000 - 512]])
    assert functions.attention_exponentials(scores, N).tolist() == [[0, 255, 128], [255, 255, 181]]


def _norm_parameters(channels: int, numerics: Numerics) -> QuantisedLayerNorm:
    generator = np.random.default_rng(channels)
    return QuantisedLayerNorm(
        mean_multiplier=round(2**22 / channels),
        mean_shift=22,
        epsilon=round(1e-6 * channels**2 * 4**numerics.residual.fraction),
        scale_multiplier=49152,
        shift=14 - numerics.activation_width // 2,
        wide_shift=1,
        channel_shift=generator.integers(0, 8, channels),
    )


@pytest.mark.parametrize("mode", NormMode)
@pytest.mark.parametrize("width", ACTIVATION_WIDTHS)
@pytest.mark.parametrize("channels", [1, 5, 96, 192])
def test_layernorm_equals_its_definition(width: int, channels: int, mode: NormMode):
    numerics = NUMERICS[width]
    generator = np.random.default_rng([width, channels])
    bounds = (numerics.residual.minimum, numerics.residual.maximum)
    rows = [np.zeros(channels), np.full(channels, bounds[0]), np.full(channels, bounds[1])]
    rows += [generator.integers(-(2**b), 2**b, channels) for b in (1, 4, 10, numerics.residual_width - 1)]
    rows += [np.where(generator.random(channels) < 0.5, *bounds)]
    x, parameters = np.array(rows, np.int64), replace(_norm_parameters(channels, numerics), mode=mode)
    got = functions.layernorm(x, parameters, numerics)
    for row, narrow, wide in zip(x.tolist(), got.activation.tolist(), got.wide.tolist(), strict=True):
        assert (narrow, wide) == reference.layernorm(row, parameters, numerics)


def test_layernorm_survives_a_constant_row_without_epsilon():
    parameters = replace(_norm_parameters(8, N), epsilon=0)
    assert not functions.layernorm(np.full((1, 8), -777), parameters, N).activation.any()


def test_rms_norm_is_close_to_float_and_keeps_the_mean():
    x = np.random.default_rng(6).integers(-4000, 9000, (20, 96))
    parameters = replace(_norm_parameters(96, N), mode=NormMode.RMS, channel_shift=np.zeros(96, np.int64))
    exact = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + 1e-6 * 4**N.residual.fraction)
    got = functions.layernorm(x, parameters, N).wide * 96 / (49152 / 2**parameters.wide_shift)
    assert np.abs(got - exact).max() < 96 / 49152 * 2 + 1e-3


def test_a_copy_rounds_half_up_and_saturates_by_channel():
    zeros = {"epsilon": 0, "mean_multiplier": 0, "mean_shift": 0, "wide_shift": 0}
    shift = np.array([0, 0, 0, 0, 0, 1])
    copy = QuantisedLayerNorm(**zeros, scale_multiplier=1, shift=1, channel_shift=shift, mode=NormMode.COPY)
    got = functions.layernorm(np.array([[3, -3, -1, 400, -400, -3]]), copy, N)
    assert got.activation.tolist() == [[2, -1, 0, 127, -128, -3]]
    assert got.wide.tolist() == [[3, -3, -1, 400, -400, -3]]


@pytest.mark.parametrize("seed", range(4))
def test_gate_equals_its_definition(seed: int):
    generator = np.random.default_rng(seed)
    spread = 2 ** int(generator.integers(2, 18))
    scores = generator.integers(-spread, spread, (50, 16))
    got = functions.gate(scores, 4, N)
    for row, indices, weights in zip(scores.tolist(), got.indices.tolist(), got.weights.tolist(), strict=True):
        assert list(zip(indices, weights, strict=True)) == reference.gate(row, 4, N)


def test_gate_ties_go_to_the_lower_index_and_one_expert_gets_everything():
    got = functions.gate([[7, 9, 9, 7], [0, 0, 0, 0], [131071, -131072, -131072, -131072]], 2, N)
    assert got.indices.tolist() == [[1, 2], [0, 1], [0, 1]]
    assert got.weights[1].tolist() == [16384, 16384]
    assert got.weights[2].tolist() == [65535, 0]


def test_queues_keep_token_order_and_weights():
    routing = functions.Routing(np.array([[2, 0], [0, 2], [2, 1]]), np.array([[10, 11], [20, 21], [30, 31]]))
    tokens = [queue.tokens.tolist() for queue in functions.queues(routing, 4)]
    weights = [queue.weights.tolist() for queue in functions.queues(routing, 4)]
    assert tokens == [[0, 1], [2], [0, 1, 2], []]
    assert weights == [[11, 20], [31], [10, 21, 30], []]
