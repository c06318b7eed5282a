"""A part of a page is replaced between its markers, and nothing else."""

import pytest

from tessera.common.documents import generated, replace_generated

DOCUMENT = "a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n<!-- generated: y -->\nkeep\n<!-- end -->\n"


def test_generated_blocks_are_replaced_between_their_markers():
    replaced = replace_generated(DOCUMENT, "x", "new\\1", "a page")
    assert replaced == DOCUMENT.replace("old", "new\\1")
    assert generated(replaced, "y", "a page") == "keep"


def test_a_block_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="a page has no generated block 'z'; restore its marker comments"):
        replace_generated(DOCUMENT, "z", "", "a page")


@pytest.mark.parametrize("empty", ["\n", "", "\n\n"])
def test_an_empty_block_is_filled(empty: str) -> None:
    document = DOCUMENT.replace("\nold\n", empty)
    assert generated(document, "x", "a page") == ""
    assert replace_generated(document, "x", "new", "a page") == DOCUMENT.replace("old", "new")


def test_a_block_without_an_end_does_not_take_the_next_one() -> None:
    with pytest.raises(ValueError, match="no generated block 'x'"):
        replace_generated(DOCUMENT.replace("<!-- end -->", "", 1), "x", "new", "a page")
