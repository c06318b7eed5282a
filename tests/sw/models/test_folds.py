"""What is folded into weights: LayerScale, missing biases, one channel, the way pixels were normalised; and epsilon."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tessera.golden import checkpoint
from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedLayerNorm
from tessera.golden.network.operators import Normalise
from tessera.hw.presets import preset
from tessera.sw.cli import app
from tessera.sw.models.importer import ImportProblems, Options, import_weights
from tessera.sw.quantiser.quantise import quantise
from tests.helpers.timm_models import VisionTransformer, randomised
from tests.helpers.timm_states import (
    HEADS,
    half_normalised,
    imported_logits,
    imported_model,
    some_pixels,
    timm_logits,
    timm_state,
)

GAMMAS = ("ls{}.gamma", "gamma_{}", "layer_scale_{}.gamma", "ls{}.scale", "lambda_{}")


def scaled(name: str = GAMMAS[0]) -> dict[str, torch.Tensor]:
    """LayerScale with factors from a tenth to one, under names of several projects."""
    factors = torch.linspace(0.1, 1.0, 48)
    return {f"blocks.{layer}.{name.format(n)}": factors * (1 + layer) for layer in range(2) for n in (1, 2)}


@pytest.mark.parametrize("name", GAMMAS)
def test_layer_scale_is_folded_exactly(tmp_path: Path, name: str) -> None:
    expected = timm_logits(timm_state() | scaled(), half_normalised(some_pixels()))
    got = imported_logits(tmp_path / "m.pth", timm_state() | scaled(name), some_pixels())
    assert (got - expected).abs().max() < 1e-5 and (
        expected - timm_logits(timm_state(), half_normalised(some_pixels()))
    ).abs().max() > 0.1
    weights = imported_model(tmp_path / "m.pth", timm_state() | scaled(name)).weights
    gamma = scaled()["blocks.1.ls2.gamma"].double()
    for part, factors in (("weight", gamma[:, None]), ("bias", gamma)):
        exact = timm_state()[f"blocks.1.mlp.fc2.{part}"].double() * factors
        assert torch.equal(weights[f"blocks.1.mlp.fc2.{part}"], exact.float())


def test_a_deit_iii_of_timm(tmp_path: Path) -> None:
    geometry = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
    theirs = randomised(VisionTransformer(**geometry, init_values=1e-4, no_embed_class=True))
    pixels = some_pixels()
    with torch.no_grad():
        expected = theirs(half_normalised(pixels).float())
    assert expected.std() > 0.1
    got = imported_logits(tmp_path / "m.pth", theirs.state_dict(), pixels)
    assert (got - expected).abs().max() < 1e-5


def test_a_layer_scale_that_fits_no_layer_is_named(tmp_path: Path) -> None:
    wrong = {"blocks.0.ls1.gamma": torch.ones(47), "blocks.1.ls2.gamma": torch.full((48,), torch.nan)}
    state = timm_state() | scaled() | wrong
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(ImportProblems) as error:
        import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS))
    assert error.value.problems == (
        "wrong shape: blocks.0.ls1.gamma is (47,), which fits no layer before it",
        "not finite: blocks.1.ls2.gamma",
    )


def test_a_layer_scale_that_one_block_lacks_is_named(tmp_path: Path) -> None:
    torch.save(timm_state() | {n: t for n, t in scaled().items() if n != "blocks.1.ls2.gamma"}, tmp_path / "m.pth")
    with pytest.raises(ImportProblems) as error:
        import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS))
    assert error.value.problems == ("missing: blocks.1.ls2.gamma, while there is blocks.0.ls2.gamma",)


def test_a_block_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    state = timm_state()
    torch.save({name.replace("blocks.1.", "blocks.3."): tensor for name, tensor in state.items()}, tmp_path / "m.pth")
    with pytest.raises(ImportProblems) as error:
        import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS))
    assert error.value.problems == ("missing: all of blocks.1", "missing: all of blocks.2")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["head.weight", "blocks.0.attn.proj.weight"])
def test_a_tensor_without_values_is_named(tmp_path: Path, name: str) -> None:
    state = timm_state()
    torch.save(state | {name: state[name][:0]}, tmp_path / "m.pth")
    with pytest.raises(ImportProblems) as error:
        import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS))
    assert f"empty: {name} is (0, 48)" in error.value.problems


@pytest.mark.parametrize("kind", ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"])
def test_layers_without_biases(tmp_path: Path, kind: str) -> None:
    state = {name: tensor for name, tensor in timm_state().items() if not name.endswith(f"{kind}.bias")}
    expected = timm_logits(state, half_normalised(some_pixels()))
    assert (imported_logits(tmp_path / "m.pth", state, some_pixels()) - expected).abs().max() < 1e-5
    found = import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS))
    assert any(line.startswith("no biases in ") and f"{kind}: taken as 0" in line for line in found.notices)


def test_biases_of_q_and_v_alone(tmp_path: Path) -> None:
    state = timm_state()
    beit = dict(state)
    for layer in range(2):
        bias = beit.pop(f"blocks.{layer}.attn.qkv.bias")
        beit[f"blocks.{layer}.attn.q_bias"], beit[f"blocks.{layer}.attn.v_bias"] = bias[:48], bias[96:]
        state[f"blocks.{layer}.attn.qkv.bias"][48:96] = 0
    expected = timm_logits(state, half_normalised(some_pixels()))
    assert (imported_logits(tmp_path / "m.pth", beit, some_pixels()) - expected).abs().max() < 1e-5


# Pixels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "deviation"), [((0.5,), (0.25,)), ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)), ((0.0,), (1.0,))]
)
def test_any_mean_and_deviation_is_folded(tmp_path: Path, mean: tuple, deviation: tuple) -> None:
    pixels, state = some_pixels(), timm_state()
    off, over = (torch.tensor(values).double().view(-1, 1, 1) for values in (mean, deviation))
    expected = timm_logits(state, (pixels.double() / 255 - off) / over)
    got = imported_logits(tmp_path / "m.pth", state, pixels, mean=mean, std=deviation)
    assert (got - expected).abs().max() < 1e-5


@pytest.mark.parametrize("half", [True, False])
def test_one_channel_reads_the_grey_of_a_picture(tmp_path: Path, half: bool) -> None:
    state, grey = timm_state(channels=1), some_pixels(channels=1)
    mean, deviation = (0.5, 0.5) if half else (0.1307, 0.3081)
    expected = timm_logits(state, (grey.double() / 255 - mean) / deviation)
    options = {} if half else {"mean": (mean,), "std": (deviation,)}
    got = imported_logits(tmp_path / "m.pth", state, grey.expand(-1, 3, -1, -1), **options)
    assert (got - expected).abs().max() < 1e-5
    found = import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS))
    assert any(line.startswith("one channel: ") for line in found.notices)


@pytest.mark.parametrize(
    ("format", "words"),
    [
        ("timm-vit", "pixels normalised to -1 to 1, as timm's ViT does: --pixels for another way"),
        ("timm-deit", "pixels normalised by ImageNet's mean and deviation, as timm's DeiT does"),
        ("torchvision-vit", "pixels normalised by ImageNet's mean and deviation, as torchvision's ViT does"),
        ("hf-vit", "pixels normalised to -1 to 1, as Hugging Face's ViT does"),
    ],
)
def test_the_usual_way_of_pixels_is_said(tmp_path: Path, format: str, words: str) -> None:
    torch.save(timm_state(), tmp_path / "m.pth")
    said = "\n".join(import_weights(format, tmp_path / "m.pth", options=Options(heads=HEADS)).notices)
    told = "\n".join(import_weights(format, tmp_path / "m.pth", options=Options(heads=HEADS, pixels="raw")).notices)
    assert words in said and "pixels normalised" not in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mean", "0.5"], "--mean and --std belong together"),
        (["--mean", "0.5", "--std", "0"], "--std is 0; a deviation is more than 0"),
        (["--mean", "0.5,0.5", "--std", "1"], "--mean has 2 values; give one finite number, or three"),
        (["--mean", "nan", "--std", "1"], "--mean has 1 values; give one finite number"),
        (["--mean", "a", "--std", "1"], "--mean is 'a'; give one number, or three with commas"),
        (["--mean", "123.7,116.3,103.5", "--std", "58.4,57.1,57.4"], "divide both by 255"),
        (["--mean", "0.5", "--std", "0.5", "--pixels", "half"], "--pixels half and --mean say the same"),
        (["--epsilon", "-1"], "--epsilon is -1; choose 0 to 0.01"),
        (["--epsilon", "nan"], "--epsilon is nan; choose 0 to 0.01"),
    ],
)
def test_statistics_that_are_none(tmp_path: Path, arguments: list[str], words: str) -> None:
    torch.save(timm_state(), tmp_path / "m.pth")
    out = tmp_path / "out.safetensors"
    command = ["import", "--format", "timm-vit", "--heads", "3", str(tmp_path / "m.pth"), "-o", str(out), *arguments]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and not out.exists() and words in " ".join(result.stderr.split()), result.stderr


# Epsilon --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 1e-3])
def test_another_epsilon_is_kept_everywhere(tmp_path: Path, epsilon: float) -> None:
    state = timm_state()
    state |= {n: t * 0.02 for n, t in state.items() if n.startswith("patch_embed") or n in ("cls_token", "pos_embed")}
    pixels = some_pixels()
    expected = timm_logits(state, half_normalised(pixels), epsilon)
    assert (imported_logits(tmp_path / "m.pth", state, pixels, epsilon=epsilon) - expected).abs().max() < 1e-5
    model = imported_model(tmp_path / "m.pth", state, epsilon=epsilon)
    out = tmp_path / "out.safetensors"
    checkpoint.save(out, checkpoint.Checkpoint(model=model, weights="imported"))
    norms = checkpoint.load(out).network.of_kind(Normalise)
    assert norms and {norm.epsilon for norm in norms} == {epsilon}
    numerics = preset("tiny").numerics
    quantised = quantise(model, pixels.numpy(), numerics)
    norm = quantised.of("layer00.norm1", QuantisedLayerNorm)
    assert norm.epsilon == round(epsilon * 48**2 * 4.0**numerics.residual.fraction)
    got = torch.from_numpy(IntegerModel(quantised, numerics).predict(pixels[0].numpy(), 0)).flatten()
    assert (got - expected[0]).norm() < 0.1 * expected.norm()


def test_an_epsilon_that_no_register_holds_is_refused(tmp_path: Path) -> None:
    model = imported_model(tmp_path / "m.pth", timm_state(), epsilon=1e-2)
    numerics = preset("tiny").with_activation_width(16).numerics
    with pytest.raises(ValueError, match="epsilon 0.01 does not fit the machine's 32 bits at 48 channels"):
        quantise(model, some_pixels().numpy(), numerics)
