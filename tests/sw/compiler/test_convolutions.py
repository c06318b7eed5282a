"""Convolutions as commands: every write against the integer model, on machines of several widths, and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.plan import plan
from tessera.golden.integer.steps import ProductStep
from tessera.golden.network.network import Network, Task
from tessera.golden.network.operators import (
    Activate,
    ActivationFunction,
    Add,
    AveragePool,
    Convolution,
    Normalise,
    Operator,
    Parameter,
    PictureInput,
    Shape,
)
from tessera.hw.presets import preset
from tessera.sw.compiler.compile import CapacityError, compile_model
from tessera.sw.compiler.convolutions import Windows
from tessera.sw.compiler.sizes import Sizes
from tessera.sw.verifier.verify import verify
from tests.helpers import emulator
from tests.helpers.models import LEAST
from tests.helpers.random_model import random_image, random_model

MACHINES = {
    "least": replace(LEAST, bank_words=1024, parameter_entries=256),
    "tiny": preset("tiny"),
    "tiny12": preset("tiny").with_activation_width(12),
    "ecp5-wide": preset("ecp5-wide"),
    "edge": preset("edge"),
}

Chain = tuple[list[Operator], dict[str, Shape]]


def chain(*convolutions: tuple[int, int, int, int, int], size: tuple[int, int] = (16, 32)) -> Chain:
    """A picture through convolutions, each (outputs, edge, stride, padding, groups); their names are c0, c1 ..."""
    operators: list[Operator] = [PictureInput(part="picture", height=size[0], width=size[1])]
    weights: dict[str, Shape] = {}
    channels = 3
    for index, (outputs, edge, stride, padding, groups) in enumerate(convolutions):
        weights |= {f"w{index}": (outputs, channels // groups, edge, edge), f"b{index}": (outputs,)}
        one = Convolution(
            part=f"c{index}",
            source=operators[-1].name,
            weight=Parameter(tensor=f"w{index}"),
            bias=Parameter(tensor=f"b{index}"),
            stride=(stride, stride),
            padding=(padding,) * 4,
            groups=groups,
        )
        operators.append(one)
        channels = outputs
    return operators, weights


def network(made: Chain) -> Network:
    """The last tensor as the result."""
    operators, weights = made
    task = Task(name="t", kind="features", channels=0, cells=0, result=operators[-1].name, grid=(1, 1))
    return Network(name="n", operators=tuple(operators), tasks=(task,), weights=weights)


def with_functions(made: Chain) -> Chain:
    """The same with a function behind the first convolution and a norm behind the second."""
    operators, weights = made
    first, second = operators[1], operators[2]
    assert isinstance(second, Convolution)
    relu = Activate(part="relu", source=first.name, function=ActivationFunction.SILU)
    norm = Normalise(
        part="norm", source=second.name, weight=Parameter(tensor="g"), bias=Parameter(tensor="g"), epsilon=1
    )
    rest = [replace(one, source="norm") if one is operators[3] else one for one in operators[3:]]  # type: ignore[call-arg]
    return [*operators[:2], relu, replace(second, source="relu"), norm, *rest], {**weights, "g": weights["b1"]}


def summed(made: Chain) -> Chain:
    """The same, with the tensor before the last convolution added to its own."""
    operators, weights = made
    add = Add(part="sum", left=operators[-2].name, right=operators[-1].name)
    return [*operators, add], weights


def pooled(made: Chain) -> Chain:
    """The same, pooled in windows of 2 x 3."""
    operators, weights = made
    pool = AveragePool(part="pool", source=operators[-1].name, kernel=(2, 3), stride=(1, 2), padding=(1, 0))
    return [*operators, pool], weights


CHAINS: dict[str, Chain] = {
    "overlapping patches": chain((10, 7, 4, 3, 1), (9, 3, 2, 1, 1), (5, 1, 1, 0, 1)),
    "each channel": chain((13, 4, 4, 0, 1), (13, 3, 1, 1, 13), (13, 5, 1, 2, 13)),
    "several outputs of a channel": chain((6, 4, 4, 0, 1), (18, 3, 2, 1, 6)),
    "groups of words": chain((32, 4, 4, 0, 1), (32, 3, 1, 1, 2), (64, 2, 2, 0, 2)),
    "groups of half words": chain((24, 4, 4, 0, 1), (12, 3, 1, 1, 3), (12, 2, 1, 0, 6)),
    "groups across words": chain((15, 4, 4, 0, 1), (20, 3, 1, 1, 5)),
    "one tap at a stride": chain((8, 3, 1, 1, 1), (6, 1, 2, 0, 1), size=(8, 32)),
    "functions and norms": with_functions(chain((8, 4, 4, 0, 1), (8, 3, 1, 1, 1), (8, 3, 1, 1, 8), (7, 2, 2, 0, 1))),
    "onto the stream": summed(chain((11, 4, 4, 0, 1), (11, 3, 1, 1, 1))),
    "each channel onto the stream": summed(chain((11, 4, 4, 0, 1), (11, 3, 1, 1, 11))),
    "pooled": pooled(chain((11, 4, 2, 1, 1), (11, 1, 1, 0, 1))),
    "odd patches": chain((10, 5, 5, 0, 1), size=(10, 32)),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", CHAINS)
def test_every_tensor_is_the_integer_models(name: str, machine: str) -> None:
    config = MACHINES[machine]
    made = network(CHAINS[name])
    quantised, image = random_model(made, config.numerics, 4), random_image(made, 5)
    program = compile_model(quantised, config)
    golden = IntegerModel(quantised, config.numerics).run(image, 0)
    result = emulator.run(program, image, 0)
    verdict = verify(program, golden, result.traces, 0)
    assert verdict.passed, str(verdict)
    last = golden[quantised.plan.results[0].tensor]
    assert np.array_equal(program.output(result.memory, 0), last)
    assert len(np.unique(last)) > min(10, last.size // 8), "degenerate"
    assert sum(command.op == "CONVOLUTION" for command in program.commands) == sum(
        step.taps is not None for step in quantised.plan.of_kind(ProductStep)
    )


def test_too_many_inputs_are_summed_on_the_stream() -> None:
    """2,304 inputs: two convolutions of whole words of channels, one added to the other, and a function behind."""
    operators, weights = chain((256, 4, 4, 0, 1), (40, 3, 1, 1, 1))
    gelu = Activate(part="gelu", source="c1", function=ActivationFunction.GELU)
    made = network(([*operators, gelu], weights))
    parts = [step for step in plan(made).of_kind(ProductStep) if step.taps is not None]
    assert [step.inputs for step in parts[-2:]] == [(0, 128), (128, 256)]
    config = MACHINES["edge"]
    quantised, image = random_model(made, config.numerics, 6), random_image(made, 7)
    program, golden = compile_model(quantised, config), IntegerModel(quantised, config.numerics).run(image, 0)
    verdict = verify(program, golden, emulator.run(program, image, 0).traces, 0)
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize(
    ("channels", "outputs", "groups", "machine", "together", "words", "tiles"),
    [
        (13, 13, 13, "tiny", 4, 1, 1),
        (13, 13, 13, "ecp5-wide", 13, 1, 0),
        (48, 48, 48, "edge", 16, 1, 1),
        (32, 64, 2, "tiny", 1, 4, 8),
        (24, 24, 3, "edge", 2, 1, 1),
        (15, 20, 5, "tiny", 5, 4, 0),
    ],
)
def test_groups_fill_words(
    channels: int, outputs: int, groups: int, machine: str, together: int, words: int, tiles: int
):
    """As few groups as fill words of inputs and tiles of outputs; all, where the last ones would reach too far."""
    made = plan(network(chain((channels, 4, 4, 0, 1), (outputs, 3, 1, 1, groups))))
    (step,) = [one for one in made.of_kind(ProductStep) if one.taps is not None]
    found = Windows.of(step, Sizes(made, MACHINES[machine]))
    assert (found.together, found.tap_words, found.tiles) == (together, words, tiles)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (chain((64, 4, 4, 0, 1), (8, 3, 1, 1, 1)), "reduction of c1 in words: needs 144, has 128"),
        (chain((544, 4, 4, 0, 1), (544, 1, 2, 0, 2)), "tiles of a group of c1: needs 68, has 32"),
        (
            chain((4, 1, 1, 0, 1), (4, 1, 2, 0, 1), size=(4, 512)),
            "lines or columns of the map of c1: needs 512, has 511",
        ),
    ],
)
def test_what_a_command_cannot_say_is_refused_by_name(made: Chain, message: str) -> None:
    found = network(made)
    with pytest.raises(CapacityError, match=message):
        compile_model(random_model(found, preset("tiny").numerics, 0), preset("tiny"))
