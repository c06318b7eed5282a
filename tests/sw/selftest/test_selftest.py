"""The self-test passes, and fails when a fault is missed or placed wrongly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tessera.sw.selftest import in_machine, in_memory
from tessera.sw.selftest.faults import Fault, Place
from tessera.sw.selftest.kinds import KINDS
from tessera.sw.selftest.selftest import run_selftest
from tests.helpers.schemas import document


def nothing(subject):
    """A fault that changes nothing."""
    return Fault(kind="nothing", injected="nothing", expected=Place(command="layer00.q"))


def misplaced(subject):
    """A real fault, expected at another channel."""
    fault = in_memory.bias(subject)
    token, channel = fault.expected.index
    return replace(fault, expected=replace(fault.expected, index=(token, channel + 1)))


def unrepaired(subject):
    """A real fault that the next frame still has: its repair is the same broken byte."""
    fault = in_machine.opcode(subject)
    ((address, data),) = fault.patches
    subject.program.content[address] = data[0]
    return fault


@pytest.mark.slow
def test_every_fault_is_caught_and_placed(tmp_path):
    stages = []
    result = run_selftest("tiny", tmp_path, lambda stage, fraction, detail: stages.append((stage, fraction))).to_dict()
    bad = [fault for fault in result["faults"] if not fault["passed"]]
    assert not bad and result["passed"] and result["clean"]["passed"]
    assert result["caught"] == result["total"] == len(KINDS) >= 8
    assert len({fault["kind"] for fault in result["faults"]}) == result["total"]
    assert stages[-1] == ("faults", 1.0)
    assert document(tmp_path / "selftest.json")["faults"][0]["reported"]["command"] == "layer00.hidden"


@pytest.mark.parametrize(
    "make, verdict",
    [
        (nothing, "missed"),
        (misplaced, "caught, but placed wrongly; bit-exact again"),
        (unrepaired, "caught and placed; but the next frame was wrong"),
    ],
)
def test_a_missed_misplaced_or_lasting_fault_fails(tmp_path, make, verdict):
    result = run_selftest("tiny", tmp_path, kinds=[make]).to_dict()
    assert result["clean"]["passed"] and not result["passed"] and result["caught"] == 0
    assert result["faults"][0]["verdict"] == verdict


def test_places_agree_by_what_is_known():
    reported = Place(command="a", tensor="t", index=(1, 2), got=3, error="NONE")
    assert Place(command="a", index=(1, None)).agrees(reported)
    assert not Place(command="a", index=(2, None)).agrees(reported)
    assert not Place(command="a", index=(1,)).agrees(reported)
    assert not Place(command="b").agrees(reported)
    assert not Place(error="WATCHDOG").agrees(reported)
