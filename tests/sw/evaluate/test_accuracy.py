"""The numbers in docs/numerics.md are what the code gives."""

import numpy as np
import pytest

from tessera.common.documents import generated
from tessera.sw.evaluate import numerics_page


@pytest.mark.parametrize("name", ["formats", "functions"])
def test_the_document_shows_what_the_code_measures(name: str):
    expected = {"formats": numerics_page.formats_table, "functions": numerics_page.functions_table}[name]()
    shown = generated(numerics_page.DOCUMENT.read_text(), name, "docs/numerics.md")
    assert shown == expected, "run `python -m tessera.sw.evaluate.numerics_page` to rewrite docs/numerics.md"


def test_gelu_is_closer_than_a_thousandth():
    assert np.abs(numerics_page.gelu_error()[1]).max() < 1e-3


def test_softmax_and_norm_errors_fall_with_the_width():
    softmax = [np.abs(numerics_page.softmax_error(width, 1.0)).max() for width in (8, 12, 16)]
    assert softmax[0] > 8 * softmax[1] and softmax[1] > 4 * softmax[2]
    assert [np.abs(numerics_page.layernorm_error(width)).max() < 3 for width in (8, 12, 16)] == [True] * 3


def test_the_figure_is_drawn(tmp_path):
    numerics_page.draw(tmp_path / "images" / "numerics.png")
    assert (tmp_path / "images" / "numerics.png").stat().st_size > 10_000
