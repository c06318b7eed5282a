"""The integer model: against an element-by-element reading of the numerics, and against the float model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tessera.golden.integer.model import IntegerModel, matmul
from tessera.golden.integer.parameters import (
    Parameters,
    QuantisedAttention,
    QuantisedExperts,
    QuantisedLayerNorm,
    QuantisedLinear,
    QuantisedModel,
    QuantisedProduct,
    QuantisedStream,
)
from tessera.golden.integer.storage import load_quantised, save_quantised
from tessera.hw.formats import Numerics
from tessera.sw.quantiser.errors import layer_errors
from tests.golden.integer import reference
from tests.helpers.models import NUMERICS
from tests.helpers.quantised_models import CONFIGS, MIXED, float_network, images, quantised_model

IMAGE = images(1, first=1_000_000)[0]


def integer_model(name: str = "mixed", width: int = 8) -> IntegerModel:
    return IntegerModel(quantised_model(name, width), NUMERICS[width])


def linear(model: IntegerModel, name: str) -> QuantisedLinear:
    return model.model.of(name, QuantisedProduct).linear


def norm(model: IntegerModel, name: str) -> QuantisedLayerNorm:
    return model.model.of(name, QuantisedLayerNorm)


def with_integers(model: QuantisedModel, name: str, integers: Parameters) -> QuantisedModel:
    """The same model with other integers of one step."""
    return replace(model, parameters={**model.parameters, name: integers})


def test_matmul_is_exact_and_refuses_what_float64_cannot_hold():
    generator = np.random.default_rng(0)
    a, b = generator.integers(-(2**20), 2**20, (3, 4, 70)), generator.integers(-(2**24), 2**24, (3, 70, 5))
    assert (matmul(a, b) == a @ b).all()
    with pytest.raises(OverflowError, match="53 bits"):
        matmul(a << 10, b)


@pytest.mark.parametrize("width", NUMERICS)
def test_an_attention_head_element_by_element(width: int):
    model = integer_model(width=width)
    tensors, attention = model.run(IMAGE, 0), model.model.of("layer00.attention", QuantisedAttention)
    size = MIXED.head_dim
    head = slice(size, 2 * size)
    q, k, v = (tensors[f"layer00.{part}"][:, head].tolist() for part in "qkv")
    for token in (0, 7, MIXED.tokens - 1):
        got = tensors["layer00.attention"][token, head].tolist()
        assert got == reference.attend(q[token], k, v, attention, model.numerics)


@pytest.mark.parametrize("width", NUMERICS)
def test_linear_layers_and_norms_element_by_element(width: int):
    model = integer_model(width=width)
    numerics, tensors = model.numerics, model.run(IMAGE, 0)
    token = 5
    row = tensors["embed"][token].tolist()
    patch = reference.linear(tensors["pixels"][token - 1].tolist(), linear(model, "embed"))
    assert row == [a + b for a, b in zip(tensors["embed.init"][token].tolist(), patch, strict=True)]
    narrow, _ = reference.layernorm(row, norm(model, "layer00.norm1"), numerics)
    assert tensors["layer00.norm1"][token].tolist() == narrow
    for part in "qkv":
        made = reference.linear(narrow, linear(model, f"layer00.{part}"))
        expected = [reference.clip(y, numerics.activation) for y in made]
        assert tensors[f"layer00.{part}"][token].tolist() == expected
    projected = reference.linear(
        tensors["layer00.attention"][token].tolist(), linear(model, "layer00.residual_attention")
    )
    row = [a + b for a, b in zip(row, projected, strict=True)]
    assert tensors["layer00.residual_attention"][token].tolist() == row
    narrow, _ = reference.layernorm(row, norm(model, "layer00.norm2"), numerics)
    hidden, second = model.model.of("layer00.hidden", QuantisedProduct), linear(model, "layer00.residual")
    output = reference.mlp(narrow, hidden.linear, second, hidden, numerics)
    assert tensors["layer00.residual"][token].tolist() == [a + b for a, b in zip(row, output, strict=True)]


@pytest.mark.parametrize("width", NUMERICS)
def test_an_expert_layer_element_by_element(width: int):
    model = integer_model(width=width)
    numerics, tensors = model.numerics, model.run(IMAGE, "depth")
    experts = model.model.of("layer01.residual", QuantisedExperts)
    for token in (0, 11):
        row = tensors["layer01.residual_attention"][token].tolist()
        narrow, wide = reference.layernorm(row, norm(model, "layer01.norm2"), numerics)
        assert tensors["layer01.norm2.wide"][token].tolist() == wide
        logits = [reference.clip(y, numerics.score) for y in reference.linear(wide, experts.gates[1])]
        assert tensors["layer01.experts.gate_scores"][token].tolist() == logits
        chosen = reference.gate(logits, MIXED.top_k, numerics)
        assert tensors["layer01.experts.expert_indices"][token].tolist() == [expert for expert, _ in chosen]
        assert tensors["layer01.experts.expert_weights"][token].tolist() == [weight for _, weight in chosen]
        for expert, weight in chosen:
            output = reference.expert(narrow, experts, expert, numerics)
            row = [a + reference.rs(b * weight, 16) for a, b in zip(row, output, strict=True)]
        assert tensors["layer01.residual"][token].tolist() == row


def test_the_head_normalises_patches_only():
    model = integer_model()
    tensors = model.run(IMAGE, "segmentation")
    narrow, _ = reference.layernorm(
        tensors["layer02.residual"][1].tolist(), norm(model, "norm_patches"), model.numerics
    )
    assert tensors["norm_patches"].shape == (MIXED.patches, MIXED.dim)
    assert tensors["norm_patches"][0].tolist() == narrow
    assert tensors["head.segmentation"][0].tolist() == reference.linear(narrow, linear(model, "head.segmentation"))
    assert (model.result(tensors, 0) == tensors["head.segmentation"]).all() and "head.depth" not in tensors


def with_gate_bias(model: IntegerModel, bias: dict[int, int]) -> IntegerModel:
    """The same model with the given experts' gate biases replaced in layer 1."""
    experts = model.model.of("layer01.residual", QuantisedExperts)
    gates = []
    for gate in experts.gates:
        values = gate.bias.copy()
        values[list(bias)] = list(bias.values())
        gates.append(replace(gate, bias=values))
    changed = with_integers(model.model, "layer01.residual", replace(experts, gates=tuple(gates)))
    return IntegerModel(changed, model.numerics)


def test_an_expert_chosen_by_every_token_and_one_chosen_by_none():
    model = with_gate_bias(integer_model(), {2: 2**31 - 1, 4: -(2**31)})
    tensors = model.run(IMAGE, 0)
    queues, tokens = tensors["layer01.experts.queues"], MIXED.tokens
    assert queues[2].tokens.tolist() == list(range(tokens)) and len(queues[4].tokens) == 0
    assert tensors["layer01.experts.expert_hidden"][4].shape == (0, MIXED.expert_hidden)
    assert (tensors["layer01.experts.expert_indices"][:, 0] == 2).all()
    row = tensors["layer01.residual_attention"][3]
    for expert, weight in zip(
        *(tensors[f"layer01.experts.expert_{n}"][3].tolist() for n in ("indices", "weights")), strict=True
    ):
        normed = tensors["layer01.norm2"][3].tolist()
        output = reference.expert(normed, model.model.of("layer01.residual", QuantisedExperts), expert, model.numerics)
        row = row + [reference.rs(y * weight, 16) for y in output]
    assert (tensors["layer01.residual"][3] == row).all()


def test_the_tasks_share_all_work_before_the_first_gate():
    model = integer_model()
    first, second = model.run(IMAGE, 0), model.run(IMAGE, 1)
    assert (first["layer01.norm2.wide"] == second["layer01.norm2.wide"]).all()
    assert (first["layer01.experts.gate_scores"] != second["layer01.experts.gate_scores"]).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_integer_model_follows_the_float_model(name: str):
    errors = {}
    for width in NUMERICS:
        report = layer_errors(float_network(name), quantised_model(name, width), images(2, first=1_000_000))
        worst = [max(layer["relative_l2"] for layer in task["layers"]) for task in report.values()]
        errors[width] = max(worst)
        assert not any(task["saturated"] for task in report.values())
        assert min(layer["cosine"] for task in report.values() for layer in task["layers"]) > 0.99
        changes = [task["routing_changes"] for task in report.values()]
        assert changes == [None, None] if name == "dense" else max(changes) < 0.2
    assert errors[8] < 0.12 and errors[12] < 0.06 and errors[16] < 0.06, errors
    # Beyond 12 bits of activations the 8-bit weights dominate, and a token that changes its experts can hide the rest.
    assert errors[12] < errors[8] and errors[16] < 1.2 * errors[12], errors


def test_rounding_of_norms_and_linear_layers_shrinks_with_every_width():
    """Compared with real arithmetic on the same integer weights, so that weight rounding plays no part."""
    errors = []
    for width, numerics in NUMERICS.items():
        quantised = quantised_model("dense", width)
        query = quantised.of("layer00.q", QuantisedProduct).linear
        epsilon = quantised.of("layer00.norm1", QuantisedLayerNorm).epsilon
        tensors = IntegerModel(quantised, numerics).run(IMAGE, 0)
        normed = tensors["layer00.norm1"].astype(np.float64)
        q = (normed @ query.weight.T + query.bias) * query.multiplier * 0.5**query.shift
        x = tensors["embed"].astype(np.float64)
        centred = x - x.mean(axis=1, keepdims=True)
        exact = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon / x.shape[1] ** 2)
        scale = quantised.scales["layer00.norm1"]
        norm_error = np.linalg.norm(normed * scale - exact) / np.linalg.norm(exact)
        errors.append((norm_error, np.linalg.norm(tensors["layer00.q"] - q) / np.linalg.norm(q)))
    for wider, narrower in zip(errors[1:], errors, strict=False):
        assert wider[0] < narrower[0] / 3 and wider[1] < narrower[1] / 8, errors


def test_predict_gives_real_outputs():
    with torch.no_grad():
        expected = float_network("features").predict(torch.from_numpy(IMAGE[None]), "b")[0].numpy()
    got = integer_model("features", 12).predict(IMAGE, "b")
    assert np.linalg.norm(got - expected) < 0.06 * np.linalg.norm(expected)


def test_dequantised_hidden_values_are_gelu_s():
    capture: dict = {}
    with torch.no_grad():
        float_network("mixed").predict(torch.from_numpy(IMAGE[None]), 0, capture=capture)
    model = integer_model(width=12)
    got = model.dequantise("layer00.hidden", model.run(IMAGE, 0)["layer00.hidden"])
    expected = capture["layer00.hidden"][0].numpy()
    assert np.abs(got - expected).max() < 0.1


def test_a_full_accumulator_is_an_error_that_names_the_tensor():
    class Narrow(Numerics):
        accumulator_width = 16

    with pytest.raises(OverflowError, match=r"embed: .*16 bits"):
        IntegerModel(quantised_model("mixed"), Narrow()).run(IMAGE, 0)


def test_a_bias_that_overflows_the_accumulator_is_an_error():
    class Tight(Numerics):
        accumulator_width = 24

    model = quantised_model("mixed")
    query = model.of("layer00.q", QuantisedProduct)
    full = replace(query, linear=replace(query.linear, bias=np.full_like(query.linear.bias, 2**23 - 10)))
    with pytest.raises(OverflowError, match=r"layer00\.q"):
        IntegerModel(with_integers(model, "layer00.q", full), Tight()).run(IMAGE, 0)


def test_saturation_of_the_residual_is_flagged():
    model = quantised_model("mixed")
    assert not IntegerModel(model, NUMERICS[8]).run(IMAGE, 0)["saturated"]
    values = model.of("embed.init", QuantisedStream).values
    full = with_integers(model, "embed.init", QuantisedStream(values=np.full_like(values, 2**17 - 1)))
    tensors = IntegerModel(full, NUMERICS[8]).run(IMAGE, 0)
    assert tensors["saturated"] and tensors["embed"].max() == 2**17 - 1


def test_wrong_widths_images_and_tasks_are_refused():
    with pytest.raises(ValueError, match="12-bit activations and a 20-bit residual, the model was quantised for 8"):
        IntegerModel(quantised_model("mixed"), NUMERICS[12])
    with pytest.raises(ValueError, match=r"image is uint8 \(3, 16, 48\)"):
        integer_model().run(IMAGE[:, :16], 0)
    with pytest.raises(ValueError, match="image is float64"):
        integer_model().run(IMAGE.astype(float), 0)
    with pytest.raises(ValueError, match="unknown task 'flow'"):
        integer_model().run(IMAGE, "flow")


@pytest.mark.parametrize("name", ["mixed", "features"])
def test_a_stored_model_computes_the_same(tmp_path, name: str):
    path = tmp_path / "model.safetensors"
    save_quantised(path, quantised_model(name))
    loaded = load_quantised(path)
    assert loaded.network == float_network(name).network and loaded.scales.keys() == quantised_model(name).scales.keys()
    expected, got = integer_model(name).run(IMAGE, 1), IntegerModel(loaded, NUMERICS[8]).run(IMAGE, 1)
    last = f"{loaded.network.places[-1]}.residual"
    assert (got[last] == expected[last]).all() and got.keys() == expected.keys()


def test_files_that_are_no_quantised_models_are_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="no quantised model at"):
        load_quantised(path)
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="format 'none', expected 'tessera-quantised-2'"):
        load_quantised(path)
    save_quantised(path, quantised_model("mixed"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_quantised(path)
