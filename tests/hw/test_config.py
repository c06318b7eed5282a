"""A configuration of one's own: what no machine can be is refused in words, whatever its kind."""

from dataclasses import fields

import numpy as np
import pytest

from tessera.hw.config import AcceleratorConfig
from tessera.hw.formats import Numerics
from tessera.hw.presets import PRESETS, preset

GOOD = {"name": "mine", "elements": 4, "lanes": 8, "memory_bytes": 8}
OTHERS = ("name", "numerics", "layernorm_row_buffer")
SIZES = [field.name for field in fields(AcceleratorConfig) if field.name not in OTHERS]


def test_numbers_of_numpy_become_pythons():
    config = AcceleratorConfig(**{**GOOD, "lanes": np.int64(8)})
    assert config == AcceleratorConfig(**GOOD) and type(config.to_dict()["lanes"]) is int


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [0, -4, 4.0, "8", None, True], ids=repr)
def test_a_size_is_a_whole_number_of_at_least_one(size, value):
    with pytest.raises(ValueError, match=f"^{size} is .*; expected a whole number of at least 1$"):
        AcceleratorConfig(**{**GOOD, size: value})


@pytest.mark.parametrize(
    "name", ["", "a/b", "a\\b", "a:b", "a\nb", "a\0b", ".hidden", "..", "-o", " a", "a ", "a*", "a?", 'a"', "a|b"]
)
def test_a_name_that_no_file_should_have(name):
    with pytest.raises(ValueError, match="names of files; choose one such as"):
        AcceleratorConfig(**{**GOOD, "name": name})


@pytest.mark.parametrize("name", ["mine", "ecp5-85f with lanes=16, elements=8", "größer_2.0"])
def test_names_of_files_are_taken(name):
    assert AcceleratorConfig(**{**GOOD, "name": name}).name == name


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", 5, "name is 5, of the type int; expected a text"),
        ("numerics", 8, "numerics is 8, of the type int; expected a Numerics"),
        ("layernorm_row_buffer", "no", "layernorm_row_buffer is the text 'no'; expected True or False"),
    ],
)
def test_other_fields_have_kinds(field, value, message):
    with pytest.raises(ValueError, match=message):
        AcceleratorConfig(**{**GOOD, field: value})


@pytest.mark.parametrize("field", ["activation_width", "residual_width"])
def test_a_width_as_text_is_called_a_text(field):
    with pytest.raises(ValueError, match=f"{field} is the text '8'; expected a whole number"):
        Numerics(**{field: "8"})


@pytest.mark.parametrize("width", ["8", 8.0, [8]], ids=repr)
def test_another_width_is_a_number(width):
    with pytest.raises(ValueError, match="activation_width is .*; expected a whole number"):
        PRESETS["tiny"].with_activation_width(width)


@pytest.mark.parametrize("name", [None, 5, ["tiny"]], ids=repr)
def test_a_preset_is_a_name(name):
    with pytest.raises(ValueError, match="preset is .*; expected the name of a machine, one of: tiny, "):
        preset(name)
