"""same_fields and assign: fields go by name, and none is forgotten."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data
from amaranth.sim import Simulator

from tessera.hw.blocks.fields import assign, same_fields

JOB = data.StructLayout({"rows": 8, "words": 4})
SWAPPED = data.StructLayout({"words": 4, "rows": 8})
NESTED = data.StructLayout({"last": 1, "lanes": data.ArrayLayout(data.ArrayLayout(signed(4), 2), 2), "job": JOB})


def values_of(target, assignments, fields):
    """Values of the fields once the assignments have been made."""
    m, found = Module(), {}
    m.d.comb += assignments

    async def bench(ctx):
        await ctx.delay(1e-9)
        found.update({name: ctx.get(target[name]) for name in fields})

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return found


@pytest.mark.parametrize("names, expected", [((), {"words": 9, "rows": 200}), (("rows",), {"words": 0, "rows": 200})])
def test_fields_go_by_name_and_not_by_place(names, expected):
    target = Signal(SWAPPED)
    assignments = same_fields(target, Signal(JOB, init={"rows": 200, "words": 9}), *names)
    assert values_of(target, assignments, expected) == expected


@pytest.mark.parametrize(
    "values, expected",
    [({}, {"rows": 200, "words": 9}), ({"words": 2}, {"rows": 200, "words": 2}), ({"rows": 1, "words": 2},) * 2],
)
def test_what_is_not_given_comes_from_the_source(values, expected):
    target = Signal(SWAPPED)
    assignments = assign(target, Signal(JOB, init={"rows": 200, "words": 9}), **values)
    assert values_of(target, assignments, expected) == expected


def test_lists_give_the_elements_of_arrays():
    target = Signal(NESTED)
    job = Signal(JOB, init={"rows": 200, "words": 9})
    found = values_of(target, assign(target, last=1, lanes=[[1, -2], [3, -4]], job=job), ("last", "lanes", "job"))
    assert [[int(lane) for lane in word] for word in found["lanes"]] == [[1, -2], [3, -4]]
    assert (found["last"], found["job"].rows, found["job"].words) == (1, 200, 9)


@pytest.mark.parametrize("values", [{}, {"rows": 1}, {"rows": 1, "words": 2, "steps": 3}])
def test_missing_and_unknown_fields_are_refused(values):
    with pytest.raises(TypeError, match="field"):
        assign(Signal(JOB), **values)


def test_a_source_without_the_field_is_refused():
    with pytest.raises(TypeError, match=r"without a value: \['words'\]"):
        assign(Signal(JOB), Signal(data.StructLayout({"rows": 8})), rows=1)


def test_a_list_of_another_length_is_refused():
    with pytest.raises(ValueError, match="argument 2"):
        assign(Signal(NESTED), last=1, lanes=[[1, 2]], job=Signal(JOB))
