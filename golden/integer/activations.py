"""Activation functions as tables of the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tessera.golden.network.operators import ActivationFunction
from tessera.hw import tables

_TABLES: Mapping[ActivationFunction, Callable[[], tables.ActivationTable]] = {
    ActivationFunction.GELU: tables.gelu_table,
    ActivationFunction.GELU_TANH: tables.gelu_tanh_table,
    ActivationFunction.QUICK_GELU: tables.quick_gelu_table,
    ActivationFunction.SILU: tables.silu_table,
    ActivationFunction.HARDSWISH: tables.hardswish_table,
    ActivationFunction.RELU: tables.relu_table,
    ActivationFunction.SIGMOID: tables.sigmoid_table,
    ActivationFunction.HARD_SIGMOID: tables.hard_sigmoid_table,
}


def table_of(function: ActivationFunction) -> tables.ActivationTable:
    """The table of a function, with its zero point."""
    return _TABLES[function]()


def zero_point(function: ActivationFunction) -> float:
    """What is added to a function's results so that none is negative."""
    return table_of(function).zero_point / 2.0**14
