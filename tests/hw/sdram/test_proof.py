"""No traffic can starve refresh: proved for the controller as it is, with the true cycles of its clock."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.hw.sdram.chip import CHIPS, SdramTiming
from tessera.hw.sdram.controller import SdramController
from tessera.hw.sdram.refresh import RefreshSequencer
from tests.helpers.proofs import prove

TIMING = CHIPS["IS42S16160G-7"].timing(100_000_000)
DEPTH = TIMING.refresh_delay + 3


def test_refreshes_are_never_farther_apart_than_trefi(tmp_path):
    assert prove(SdramController(TIMING, 1), tmp_path, depth=DEPTH, leave_out=["top", "top.banks"]) == []


@dataclass(frozen=True, kw_only=True)
class Hopeful(SdramTiming):
    """Believes that a refresh is issued a cycle earlier than it can be."""

    @property
    def refresh_delay(self):
        return super().refresh_delay - 1


def test_a_delay_too_short_is_refuted(tmp_path):
    fields = {name: getattr(TIMING, name) for name in TIMING.__dataclass_fields__}
    controller = SdramController(Hopeful(**fields), 1)
    assert prove(controller, tmp_path, depth=DEPTH, leave_out=["top", "top.banks"]) == ["top.refresh"]


def test_banks_that_need_never_close_are_refuted(tmp_path):
    assert prove(RefreshSequencer(TIMING), tmp_path, depth=DEPTH) == ["top"]
