"""Networks: what they refuse, what they say of themselves, and that JSON keeps all of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tessera.golden.config import M3VIT_TINY, MODELS, ModelConfig
from tessera.golden.network.network import Network, Task
from tessera.golden.network.operators import Add, Linear, MixExperts, Parameter, Part, PictureInput, Reshape
from tests.helpers.networks import network_of
from tests.helpers.quantised_models import CONFIGS

WEIGHTS = {"w": (4, 3)}
PICTURE = PictureInput(part="picture", height=4, width=8)
ROWS = Reshape(part="rows", source="picture", to=(32, 3))
LINEAR = Linear(part="linear", source="rows", weight=Parameter(tensor="w"))
TASK = Task(name="t", kind="features", channels=0, cells=0, result="linear", grid=(4, 8))


def small(*operators, tasks: tuple[Task, ...] = (TASK,)) -> Network:
    return Network(name="small", operators=operators or (PICTURE, ROWS, LINEAR), tasks=tasks, weights=WEIGHTS)


def test_what_a_network_says_of_itself() -> None:
    network = small()
    assert network.shapes == {"picture": (4, 8, 3), "rows": (32, 3), "linear": (32, 4)}
    assert (network.image_height, network.image_width, network.places) == (4, 8, ())
    assert network.readers == {"picture": (ROWS,), "rows": (LINEAR,), "linear": ()}
    assert network.by_name["linear"] is LINEAR and network.of_kind(Linear) == (LINEAR,)
    assert network.task_index("t") == 0
    with pytest.raises(ValueError, match="unknown task 'u'; this model has: t"):
        network.task_index("u")


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="linear reads rows, which no operator before it makes"):
        small(PICTURE, LINEAR, ROWS)
    with pytest.raises(ValueError, match="two operators are called rows"):
        small(PICTURE, ROWS, ROWS, LINEAR)
    with pytest.raises(ValueError, match="reads 2 pictures, expected one"):
        small(PICTURE, replace(PICTURE, part="other"), ROWS, LINEAR)
    with pytest.raises(ValueError, match="reads 0 pictures"):
        small(Add(part="linear", left="a", right="b"))
    with pytest.raises(ValueError, match="network 'small' has no task; give at least one result"):
        small(tasks=())
    with pytest.raises(ValueError, match="task 't' has the result 'head', which no operator makes"):
        small(tasks=(replace(TASK, result="head"),))
    with pytest.raises(ValueError, match=r"part \(part\): rows 0 to 33 lie outside"):
        small(PICTURE, ROWS, Part(part="part", source="rows", axis="rows", start=0, stop=33), LINEAR)


EVERY = {**MODELS, **CONFIGS}


@pytest.mark.parametrize("config", EVERY.values(), ids=EVERY)
def test_networks_survive_json(config: ModelConfig) -> None:
    network = network_of(config)
    again = Network.from_dict(json.loads(json.dumps(network.to_dict())))
    assert again == network and again.shapes == network.shapes
    assert again.facts() == network.facts()


def test_files_of_another_version_or_with_unknown_operators_are_refused() -> None:
    plain = small().to_dict()
    with pytest.raises(ValueError, match="the network has format 7, this version reads 1; import again"):
        Network.from_dict(plain | {"format": 7})
    plain["operators"][2]["operator"] = "fold"
    with pytest.raises(ValueError, match="unknown operator 'fold'; this version knows: .*linear"):
        Network.from_dict(plain)


def test_facts_follow_from_the_operators() -> None:
    network = network_of(M3VIT_TINY)
    facts = network.facts()
    assert facts["layers"] == [f"layer{layer:02d}" for layer in range(12)]
    assert facts["mixtures"] == [f"layer{layer:02d}.experts" for layer in M3VIT_TINY.expert_layers]
    assert facts["operators"] == len(network.operators)
    other = replace(network, tasks=network.tasks[:1])
    assert other.facts()["digest"] != facts["digest"] == network_of(M3VIT_TINY).facts()["digest"]


def test_a_transformer_s_tasks_and_mixtures() -> None:
    network = network_of(CONFIGS["conditioned"])
    assert [task.result for task in network.tasks] == ["head.segmentation", "head.depth"]
    assert [task.outputs for task in network.tasks] == [8 * 4, 4] and network.tasks[0].grid == (4, 6)
    for mixture in network.of_kind(MixExperts):
        assert [embedding.item for embedding in mixture.embeddings] == [0, 1] and len(set(mixture.gates)) == 1
    features = network_of(CONFIGS["features"]).tasks
    assert [(task.result, task.prefix, task.outputs) for task in features] == [("layer02.residual", 1, 0)] * 2
