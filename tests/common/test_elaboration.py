"""Units that are made only to ask them something."""

import gc
import warnings

from amaranth.hdl import Elaboratable, Fragment, Module

from tessera.common.elaboration import refused_quietly, unelaborated


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


def test_a_design_that_refuses_does_not_warn_of_its_parts():
    def design():
        part = Unit()
        raise ValueError(f"no such size for {type(part).__name__}")

    Fragment.get(Unit(), None)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            with refused_quietly():
                design()
        except ValueError as error:
            assert str(error) == "no such size for Unit"
        gc.collect()
    assert not seen
