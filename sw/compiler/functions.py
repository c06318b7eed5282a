"""Activation functions: what they make of padding, and their tables in the machine."""

from __future__ import annotations

import numpy as np

from tessera.golden.integer import functions
from tessera.golden.integer.activations import table_of
from tessera.golden.integer.steps import ExpertsStep, ProductStep
from tessera.golden.network.operators import ActivationFunction
from tessera.hw.formats import Numerics
from tessera.hw.isa import Function, Opcode, Unit
from tessera.sw.compiler.context import Context
from tessera.sw.compiler.emission import Emitter
from tessera.sw.compiler.operations import MachineOperation, Order, RegionAccess

_ALWAYS_THERE = {ActivationFunction.GELU: Function.GELU, ActivationFunction.RELU: Function.RELU}
_REGION = "function"


def code_of(function: ActivationFunction | None) -> Function:
    """How a command names a function."""
    return Function.NONE if function is None else _ALWAYS_THERE.get(function, Function.TABLE)


def zero_activation(function: ActivationFunction, multiplier: int, shift: int, numerics: Numerics) -> int:
    """What a function makes of a padded channel."""
    return int(functions.activate(0, table_of(function), multiplier, shift, numerics))


def load_function(context: Context, step: ProductStep | ExpertsStep) -> tuple[RegionAccess, ...]:
    """Append the load of a step's table, if the machine does not have it then; returns what the step reads."""
    function = step.function
    if function is None or code_of(function) != Function.TABLE:
        return ()
    tasks = range(len(context.network.tasks)) if step.tasks is None else step.tasks
    access = RegionAccess(region=context.region(_REGION, space="function"))
    if any(context.tables.get(task) != function for task in tasks):
        context.tables.update(dict.fromkeys(tasks, function))

        def emit(emitter: Emitter, order: Order) -> None:
            entries = np.array(table_of(function).entries(), "<u4")
            label = context.label(step, whole=f"{step.name}.table")
            emitter.emit(Opcode.TABLE, label, order=order, **emitter.block(entries.view(np.uint8)))

        context.add(MachineOperation(unit=Unit.STREAM, emit=emit, writes=(access,), tasks=step.tasks))
    return (access,)
