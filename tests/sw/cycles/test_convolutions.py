"""Cycles of convolutions: the model against the simulated machine, and against the beats that they take at least."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.hw.isa import ErrorCode, Opcode
from tessera.hw.presets import preset
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import SimulationOptions
from tessera.sw.cycles.frame import FrameModel
from tests.helpers.convolutions import Case, Places, add_convolution
from tests.helpers.hand_program import HandProgram

NO_IMAGE = np.zeros((3, 1, 1), np.uint8)
CASES = {
    "3x3, stride 2": Case(rows=16, columns=16, words=3, outputs=6, kernel=(3, 3), stride=(2, 2), pad=(1, 1, 1, 1)),
    "depthwise": Case(rows=10, columns=12, words=8, outputs=8, kernel=(3, 3), pad=(1, 1, 1, 1), groups=-1),
    "kernel moves as long as it stands": Case(rows=32, columns=20, words=1, outputs=8, kernel=(2, 2), stride=(4, 4)),
    "1x1, stride 2": Case(rows=16, columns=20, words=2, outputs=6, kernel=(1, 1), stride=(2, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_convolutions_take_what_is_predicted(name: str) -> None:
    program, random = HandProgram(preset("tiny")), np.random.default_rng(1)
    places, _ = add_convolution(program, CASES[name], Places(), random)
    add_convolution(program, CASES[name], places, random)
    program.add(Opcode.END)
    model = FrameModel(program, 0, {}, 60)
    predicted = model.run()
    options = SimulationOptions(trace=False)
    frame = run_machine(program, [Frame(task=0, image=NO_IMAGE)], options=options)[0]
    assert frame.error == ErrorCode.NONE
    # Alone among its commands a convolution waits for nothing that the model does not know.
    assert abs(predicted - frame.cycles) <= 0.02 * frame.cycles, (predicted, frame.cycles)
    for index, start, end in model.stamps:
        if program.commands[index].op == "CONVOLUTION":
            spent = frame.stamps[index, 1] - frame.stamps[index, 0]
            assert abs((end - start) - spent) <= 0.02 * spent, (index, end - start, spent)
