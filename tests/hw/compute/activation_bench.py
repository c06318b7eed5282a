"""Runs inside the simulator: Activation for every argument."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.golden.integer.functions import activate, residual_multiply
from tessera.hw import tables
from tessera.hw.compute.activation import Activation
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import Function
from tessera.sim.bench.streams import clock_and_reset, parameters, rng
from tests.helpers.port_bits import port_bits
from tests.helpers.replay import replay
from tests.hw.compute.table_lines import table_lines


def settings_bits(function: Function, table: tables.ActivationTable | None, multiplies: bool, scale) -> int:
    """The lane's settings, as the drain makes them."""
    multiplier, shift = scale
    values = {
        "identity": function == Function.NONE,
        "flat": function in (Function.NONE, Function.RELU),
        "loaded": function == Function.TABLE,
        "step": function == Function.TABLE and table.step,
        "multiplies": multiplies,
        "zero_point": 1 if multiplies else table.zero_point,
        "multiplier": multiplier,
        "correction": 0 if multiplies else multiplier,
        "shift": shift,
    }
    return port_bits("settings", {name: np.array([int(value)]) for name, value in values.items()})[0]


@cocotb.test()
async def every_argument_is_exact(dut):
    """All 65,536 arguments in random order, for each function, multiplier and shift."""
    await clock_and_reset(dut)
    settings, random = parameters(), rng()
    config = AcceleratorConfig.from_dict(settings["config"])
    numerics = config.numerics
    residual = numerics.residual
    for name, multiplies, multiplier, shift in settings["cases"]:
        table = getattr(tables, f"{name}_table")() if name != "none" else None
        function = getattr(Function, name.upper(), Function.TABLE)
        if function == Function.TABLE:
            dut.table_write__valid.value = 1
            for line in table_lines(table, config):
                dut.table_write__payload.value = line
                await RisingEdge(dut.clk)
            dut.table_write__valid.value = 0
        arguments = random.permutation(np.arange(-32768, 32768))
        old = random.integers(residual.minimum, residual.maximum + 1, len(arguments))
        old[: len(old) // 8] = random.choice([residual.minimum, residual.maximum, -1, 0, 1], len(old) // 8)
        dut.settings.value = settings_bits(function, table, multiplies, (multiplier, shift))
        late = np.concatenate([np.zeros(Activation.FACTOR_LATENCY, np.int64), old])
        inputs = {"argument": np.pad(arguments, (0, Activation.FACTOR_LATENCY)), "factor": late}
        seen = await replay(dut, inputs, ["value", "clipped"], extra=Activation.LATENCY)
        got = np.array(seen["value"][Activation.LATENCY :][: len(arguments)])
        if multiplies:
            want = residual_multiply(old, arguments, table, shift, numerics)
            clipped = seen["clipped"][Activation.LATENCY :][: len(arguments)]
            assert bool(np.any(clipped)) == want.saturated
            want = want.values
        else:
            want = activate(arguments, table, multiplier, shift, numerics)
        wrong = np.flatnonzero(got != want)
        assert not len(wrong), (
            f"{name} multiplier {multiplier} shift {shift} argument {arguments[wrong[0]]}: "
            f"{got[wrong[0]]}, not {want[wrong[0]]} ({len(wrong)} wrong)"
        )
