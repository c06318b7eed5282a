"""Units that are made only to ask them something."""

import gc
import warnings

from amaranth.hdl import Elaboratable, Fragment, Module

from tessera.common.elaboration import unelaborated


class Unit(Elaboratable):
    def __init__(self):
        self.itself = self

    def elaborate(self, platform):
        return Module()


def test_units_that_are_only_asked_something_do_not_warn():
    Fragment.get(Unit(), None)  # Amaranth warns only once something was elaborated.
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with unelaborated():
            Unit()
        assert not seen and list(warnings.filters) == before
        Unit()
        gc.collect()
    assert len(seen) == 1
