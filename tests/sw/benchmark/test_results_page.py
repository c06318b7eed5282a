"""The table of frames in docs/results.md has the form that the benchmark writes."""

from tessera.common.documents import generated
from tessera.sw.benchmark import results_page
from tessera.sw.benchmark.results_page import frames_block

FRAME = {
    "preset": "edge",
    "memory_bytes_per_cycle": 32,
    "model": "m3vit-backbone",
    "routing": "balanced",
    "task": "task0",
    "cycles": 3_169_551,
    "bound_cycles": 3_147_518,
    "mac_utilisation": 0.9651,
    "bit_exact": True,
}


def test_a_row_is_written_as_the_page_has_it():
    block = generated(results_page.DOCUMENT.read_text(), "frames", "docs/results.md")
    assert frames_block([FRAME]).splitlines() == block.splitlines()[:3]


def test_a_frame_that_is_wrong_stands_out():
    assert frames_block([FRAME | {"bit_exact": False}]).endswith("| **no** |")
