"""The outline and the drawing of networks: all is there once, layers that repeat are folded, nothing overlaps."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from tessera.golden.config import ModelConfig
from tessera.golden.integer.plan import plan
from tessera.golden.network.network import Network
from tessera.sw.models.exported.from_torch import Pixels
from tessera.sw.models.exported.from_torch import network_of as read
from tessera.sw.report.drawing import drawing
from tessera.sw.report.maps import map_shapes
from tessera.sw.report.outline import of_network, of_plan
from tests.helpers.networks import network_of
from tests.helpers.own_networks import NETWORKS, own_network
from tests.helpers.quantised_models import CONFIGS, MIXED

SVG = "{http://www.w3.org/2000/svg}"


def folded(config: ModelConfig) -> list[tuple[int, tuple[str, ...]]]:
    return [(series.times, series.last) for series in of_network(network_of(config)) if series.last != ("",)]


def test_layers_that_repeat_are_shown_once():
    """Dense, or in turn with experts; the last one's task does not keep it apart."""
    dense = replace(MIXED, layers=5, expert_layers=())
    assert folded(dense) == [(5, ("layer04",))]
    assert folded(replace(MIXED, layers=6, expert_layers=(1, 3, 5))) == [(3, ("layer04", "layer05"))]
    assert folded(replace(MIXED, layers=4, expert_layers=(2, 3))) == [(2, ("layer01",)), (2, ("layer03",))]
    last = of_network(network_of(replace(CONFIGS["features"], layers=3, expert_layers=())))[-1]
    assert last.times == 3 and last.layers[0].items[-1].tasks == ("a (features)", "b (features)")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_operator_and_step_is_there_as_often_as_it_comes(config: ModelConfig):
    network = network_of(config)
    for outline, count in ((of_network(network), len(network.operators)), (of_plan(plan(network), network), None)):
        found = sum(series.times * len(layer.items) for series in outline for layer in series.layers)
        assert found == (count or len(plan(network).steps))


def networks() -> dict[str, Network]:
    made = {name: network_of(config) for name, config in CONFIGS.items()}
    for name in NETWORKS:
        made[name] = read(own_network(name), torch.zeros(1, 3, 32, 64), pixels=Pixels()).network
    return made


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple[Network, ElementTree.Element]]:
    return {
        name: (network, ElementTree.fromstring(drawing(network, alone=True))) for name, network in networks().items()
    }


@pytest.mark.parametrize("name", [*CONFIGS, *NETWORKS])
def test_boxes_lie_inside_and_beside_each_other(name: str, drawn):
    network, svg = drawn[name]
    width, height = float(svg.get("width")), float(svg.get("height"))
    boxes = []
    for group in svg.iter(f"{SVG}g"):
        for shape in group:
            if shape.tag == f"{SVG}rect":
                x, y, w, h = (float(shape.get(key)) for key in ("x", "y", "width", "height"))
                boxes.append((x, y, x + w, y + h))
            elif shape.tag == f"{SVG}circle":
                x, y, r = (float(shape.get(key)) for key in ("cx", "cy", "r"))
                boxes.append((x - r, y - r, x + r, y + r))
    assert all(0 <= x and 0 <= y and u <= width and v <= height for x, y, u, v in boxes)
    for (x, y, u, v), (a, b, c, d) in combinations(boxes, 2):
        assert u <= a or c <= x or v <= b or d <= y
    assert len([one for one in svg.iter(f"{SVG}rect") if one.get("class") == "result"]) == len(network.tasks)


def test_every_arrow_of_a_network_is_drawn(drawn):
    """One of each box to each that reads it; skips run in lanes, of which there are as many as pass each other."""
    network, svg = drawn["skip"]
    named = {"part", "reshape"}
    edges = [one for one in svg.iter(f"{SVG}path") if one.get("class") == "edge"]
    tips = [one for one in svg.iter(f"{SVG}path") if one.get("class") == "tip"]
    kept = [operator for operator in network.operators if operator.tag not in named]
    assert len(edges) == len(tips) == sum(len(one.sources) for one in kept) + len(network.tasks)
    lanes = {path.get("d").partition("H")[2].partition("q")[0] for path in edges if "H" in path.get("d")}
    assert len(lanes) == 4


def test_a_drawing_brings_its_colours_only_where_it_stands_alone():
    network = network_of(MIXED)
    assert "prefers-color-scheme" in drawing(network, alone=True)
    assert "prefers-color-scheme" not in drawing(network, alone=False) and "var(--ink)" in drawing(network, alone=False)


@pytest.mark.parametrize("alone", [True, False])
def test_colours_do_not_depend_on_a_style_sheet(alone: bool):
    """Converters know no variables, and many of them no style sheets; what they skip here is the dark side alone."""
    svg = drawing(network_of(MIXED), alone=alone)
    for shape in ElementTree.fromstring(svg).iter():
        if shape.tag.rpartition("}")[2] in ("rect", "circle", "text", "path"):
            colours = [shape.get(key) for key in ("fill", "stroke") if shape.get(key) not in (None, "none")]
            assert colours and all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)
    assert ("var(" in svg) != alone
    sheet = svg.partition("<style>")[2].partition("</style>")[0].strip()
    assert sheet.startswith("@media (prefers-color-scheme: dark) {") == alone


class Convolved(nn.Module):
    """A stem whose members have numbers, with a long name, and a mean over the map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.GELU())
        self.a_head_with_a_long_name = nn.Linear(16, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.a_head_with_a_long_name(self.stem(pixels).flatten(2).mean(2))


def test_boxes_of_a_convolutional_network_say_what_a_reader_expects():
    """No frame around one operator, maps as maps, and no text cut that a wider box has room for."""
    svg = drawing(read(Convolved().eval(), torch.zeros(1, 3, 32, 64), pixels=Pixels()).network, alone=True)
    texts = [one.text for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert 'class="frame"' not in svg and "\u2026" not in svg
    assert [one for one in texts if "\u00d7" in one and "," not in one] == [
        "32 \u00d7 64 \u00d7 3",
        *["16 \u00d7 32 \u00d7 16"] * 4,
        "1 \u00d7 16",
        "1 \u00d7 10",
    ]
    assert {"stem.0.conv2d", "stem.1.relu", "a_head_with_a_long_name"} <= set(texts)
    assert "convolution, 3 \u00d7 3, 16 to 16, stride 1, padding 1" in texts


def test_tokens_of_a_transformer_are_no_map():
    shapes = map_shapes(network_of(MIXED))
    assert [name for name in shapes if name.startswith("layer")] == [] and "picture" in shapes
