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
