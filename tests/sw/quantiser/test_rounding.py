"""Rounding with feedback: smaller errors of the outputs, means taken off, plain rounding where nothing is known."""

import numpy as np
import pytest
import torch

from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedExperts
from tessera.sw.quantiser.errors import layer_errors
from tessera.sw.quantiser.observation import Observation
from tessera.sw.quantiser.quantise import quantise
from tessera.sw.quantiser.rounding import Moments, round_with_feedback
from tessera.sw.quantiser.scales import LinearInput, quantise_linear
from tests.helpers.models import NUMERICS
from tests.helpers.quantised_models import float_model, float_network, images, quantised_model

N = NUMERICS[12]


def correlated(count: int, inputs: int, seed: int) -> np.ndarray:
    """Inputs that a few directions explain, around means that are not zero."""
    generator = np.random.default_rng(seed)
    directions = generator.normal(size=(inputs // 6, inputs))
    rows = generator.normal(size=(count, inputs // 6)) @ directions + generator.normal(size=(count, inputs)) * 0.3
    return rows + generator.normal(size=inputs) * 3


def moments(rows: np.ndarray) -> Moments:
    return Moments(rows.mean(axis=0), np.cov(rows.T, bias=True))


@pytest.mark.parametrize("inputs", [7, 32, 33, 100])
def test_outputs_come_closer_than_with_the_nearest_integers(inputs: int):
    values = np.random.default_rng(inputs).normal(0, 30, (40, inputs))
    seen, unseen = (correlated(4000, inputs, inputs)[part::2] for part in (0, 1))
    rounded = round_with_feedback(values, np.cov(seen.T), 127)
    assert (rounded == np.rint(rounded)).all() and np.abs(rounded).max() <= 127
    assert np.abs(rounded - values).max() < 20  # a weight may move by more than a half, but not anywhere

    def error(integers: np.ndarray) -> float:
        return float((unseen @ (integers - values).T).std(axis=0).mean())

    assert error(rounded) < 0.75 * error(np.rint(values))


def test_without_knowledge_every_weight_becomes_its_nearest_integer():
    values = np.random.default_rng(1).normal(0, 60, (9, 20))
    nearest = np.clip(np.rint(values), -127, 127)
    assert (round_with_feedback(values, np.zeros((20, 20)), 127) == nearest).all()
    assert (round_with_feedback(values, np.diag(np.arange(1.0, 21.0)), 127) == nearest).all()


def test_the_bias_takes_up_what_rounding_adds_on_average():
    generator, rows = np.random.default_rng(3), correlated(3000, 48, 3)
    weight, bias, scale = generator.normal(size=(20, 48)), generator.normal(size=20), 0.05
    inputs = np.rint(rows / scale)
    errors = []
    for known in (None, moments(rows)):
        layer = quantise_linear(
            weight,
            bias,
            LinearInput(form=N.activation, scale=scale, moments=known),
            output_scale=0.01,
            numerics=N,
        )
        got = (inputs @ layer.weight.T + layer.bias) * layer.multiplier * 0.5**layer.shift * 0.01
        errors.append(got - (rows @ weight.T + bias))
    assert np.abs(errors[1].mean(axis=0)).max() < 0.1 * np.abs(errors[0].mean(axis=0)).max()
    assert errors[1].std() < 0.8 * errors[0].std()


def test_a_zero_point_does_not_count_as_the_inputs_mean():
    generator = np.random.default_rng(4)
    rows = np.abs(correlated(3000, 40, 4)) * 0.1
    weight, scale, zero = generator.normal(size=(10, 40)), 0.01, 0.17
    layer = quantise_linear(
        weight,
        0.0,
        LinearInput(form=N.unsigned_activation, scale=scale, zero_point=zero, moments=moments(rows)),
        output_scale=0.01,
        numerics=N,
    )
    inputs = np.rint((rows + zero) / scale)
    error = (inputs @ layer.weight.T + layer.bias) * layer.multiplier * 0.5**layer.shift * 0.01 - rows @ weight.T
    assert np.abs(error.mean(axis=0)).max() < 0.02 < np.abs((rows @ weight.T).mean(axis=0)).min() + 0.02


def test_observation_measures_what_it_says():
    model, pictures = float_network("mixed"), images(12)
    seen, capture = Observation(model, pictures), {}
    with torch.no_grad():
        model.run(torch.from_numpy(pictures), range(2), capture=capture)
    hidden = capture["layer00.hidden"].flatten(0, 1).double().numpy()
    got = seen.moments("layer00.hidden")
    assert got is not None
    assert got.mean == pytest.approx(hidden.mean(axis=0), abs=1e-4)
    assert np.diag(got.covariance) == pytest.approx(hidden.var(axis=0), rel=1e-3, abs=1e-6)
    exact = np.cov(hidden.T, bias=True)
    assert np.abs(got.covariance - exact).max() <= 0.2 * np.abs(exact).max()
    queues = capture["layer01.experts.expert_hidden"]
    for expert, values in queues.items():
        found = seen.moments(f"layer01.experts.expert_hidden.{expert}")
        assert (found is None) == (not len(values))
        if found is not None:
            assert found.mean == pytest.approx(values.double().mean(dim=0).numpy(), abs=1e-4)


def test_experts_without_tokens_are_quantised_all_the_same(monkeypatch: pytest.MonkeyPatch):
    known = Observation.moments
    monkeypatch.setattr(Observation, "moments", lambda self, name: None if name.endswith(".3") else known(self, name))
    experts = quantise(float_network("mixed"), images(4), N).of("layer01.residual", QuantisedExperts).experts
    weight = float_model("mixed").blocks[1].mlp.experts.h4toh.weight[3].detach().double().numpy()  # type: ignore
    steps = np.abs(weight).max(axis=1, keepdims=True) / 127
    assert (experts[3].second.weight == np.rint(weight / steps)).all()


def test_a_model_comes_closer_with_feedback(monkeypatch: pytest.MonkeyPatch):
    unseen = images(3, first=70)
    with_feedback = layer_errors(float_network("mixed"), quantised_model("mixed", 12), unseen)
    monkeypatch.setattr(
        "tessera.sw.quantiser.scales.round_with_feedback", lambda values, covariance, limit: np.rint(values)
    )
    plain = layer_errors(float_network("mixed"), quantise(float_network("mixed"), images(8), N), unseen)
    for task, report in with_feedback.items():
        assert report["layers"][-1]["relative_l2"] < 0.8 * plain[task]["layers"][-1]["relative_l2"]


@pytest.mark.parametrize(("tensor", "share"), [("embed", 0.15), ("layer00.residual_attention", 0.8)])
def test_pictures_and_values_lose_next_to_nothing_on_average(tensor: str, share: float):
    model, pictures = float_network("mixed"), images(8)
    integer, capture = IntegerModel(quantised_model("mixed", 12), N), dict[str, torch.Tensor]()
    with torch.no_grad():
        model.predict(torch.from_numpy(pictures), 0, capture=capture)
    got = np.stack([integer.dequantise(tensor, integer.run(picture, 0)[tensor]) for picture in pictures])
    error = (got - capture[tensor].double().numpy())[:, 1:]
    assert np.abs(error.mean(axis=(0, 1))).max() < share * error.std()
