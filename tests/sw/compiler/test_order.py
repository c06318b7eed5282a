"""Orders and lives: each rule of the machine on operations made by hand, then those of whole networks."""

from __future__ import annotations

from typing import Any

import pytest

from tessera.golden.config import DEIT_SMALL, M3VIT_TINY, NANO, ModelConfig
from tessera.hw.isa import EVERYTHING, Follow, Unit, decode
from tessera.hw.presets import preset
from tessera.program.commands import Command
from tessera.program.program import Program
from tessera.sw.compiler.compile import compile_model
from tessera.sw.compiler.operations import MachineOperation, Order, RegionAccess
from tessera.sw.compiler.order import NOTHING, Life, schedule
from tests.helpers.random_model import random_model

ROWS = 10


def rows(region: str, first: int = 0, count: int = ROWS) -> RegionAccess:
    return RegionAccess(region=region, first=first, rows=count)


def operation(unit: Unit, reads: Any = (), writes: Any = (), **fields: Any) -> MachineOperation:
    """Names of regions stand for all of their rows; engine, LayerNorm and image loader write row by row."""
    accesses = [tuple(rows(one) if isinstance(one, str) else one for one in some) for some in (reads, writes)]
    in_rows = unit in (Unit.ENGINE, Unit.NORM, Unit.IMAGE)
    fields = {"in_rows": in_rows, "row_by_row": bool(reads), **fields}
    return MachineOperation(
        unit=unit, emit=lambda emitter, order: None, reads=accesses[0], writes=accesses[1], **fields
    )


def engine(reads: Any = (), writes: Any = (), **fields: Any) -> MachineOperation:
    return operation(Unit.ENGINE, reads, writes, **fields)


def norm(reads: Any = (), writes: Any = (), **fields: Any) -> MachineOperation:
    return operation(Unit.NORM, reads, writes, **fields)


def ordered(*operations: MachineOperation, tasks: int = 1) -> list[Order]:
    return list(schedule(operations, tasks).orders)


def lives_of(*operations: MachineOperation) -> dict[str, Life]:
    return schedule(operations, 1).lives[0]


def last(*operations: MachineOperation) -> Order:
    return ordered(*operations)[-1]


# What a command waits for ---------------------------------------------------------------------------------------------


def test_what_touches_nothing_of_another_waits_for_nothing() -> None:
    assert last(engine(["a"], ["b"]), norm(["c"], ["d"])) == Order(after=NOTHING)
    assert last(engine(["a"], ["b"]), norm([rows("a", 0, 4)], ["d"])) == Order(after=NOTHING), "two readers"


def test_what_reads_all_rows_at_once_waits_for_their_writer() -> None:
    assert last(norm(["a"], ["b"]), engine(["b"], ["c"], row_by_row=False)) == Order(after=Unit.NORM)


def test_what_reads_row_by_row_follows_the_writer() -> None:
    assert last(norm(["a"], ["b"]), engine(["b"], ["c"])) == Order(after=NOTHING, follow=Follow.NORM)
    assert last(engine(["a"], ["b"]), norm(["b"], ["c"])) == Order(after=NOTHING, follow=Follow.ENGINE)
    assert last(engine(["a"], ["b"]), engine(["b"], ["c"])) == Order(after=NOTHING, follow=Follow.ENGINE)
    image = operation(Unit.IMAGE, [], ["p"])
    assert last(image, engine(["p"], ["c"])) == Order(after=NOTHING, follow=Follow.IMAGE)


def test_a_writer_that_does_not_write_row_by_row_is_awaited() -> None:
    assert last(engine(["a"], ["b"], in_rows=False), norm(["b"], ["c"])) == Order(after=Unit.ENGINE)
    stage = operation(Unit.STREAM, [], ["w"], in_rows=False)
    assert last(stage, engine(["w"], ["c"])) == Order(after=Unit.STREAM), "nobody follows the weight stream"


def test_other_rows_are_nobodys_business() -> None:
    assert last(norm([rows("s", 0, 5)], ["b"]), engine(["x"], [rows("s", 5, 5)])) == Order(after=NOTHING)
    assert last(norm([rows("s", 0, 6)], ["b"]), engine(["x"], [rows("s", 5, 5)])) == Order(after=Unit.NORM)


def test_only_rows_at_or_behind_the_readers_are_followed() -> None:
    """Row r of a follower starts when row r of what it follows is there: that must be no earlier than what it needs."""
    early = engine(["a"], [rows("s", 1, 9)])
    assert last(early, norm([rows("s", 0, 9)], ["n"])) == Order(after=NOTHING, follow=Follow.ENGINE)
    late = engine(["a"], [rows("s", 0, 9)])
    assert last(late, norm([rows("s", 1, 9)], ["n"])) == Order(after=Unit.ENGINE)


def test_only_the_latest_command_of_a_unit_is_followed() -> None:
    first, second = engine(["a"], ["s"]), engine(["a"], ["t"])
    assert last(first, second, norm(["s"], ["n"])) == Order(after=Unit.ENGINE)


def test_two_writers_of_what_is_read_are_not_both_followed() -> None:
    """A LayerNorm behind two products onto its stream follows the later one, of which the earlier is settled first."""
    first, second = engine(["a"], [rows("s", 0, 5)]), engine(["a"], [rows("s", 5, 5)])
    order = last(first, second, norm(["s"], ["n"]))
    assert order.follow == Follow.ENGINE or order.after == Unit.ENGINE
    assert order == last(first, second, norm(["s"], ["n"]))


# What a unit settles by itself ----------------------------------------------------------------------------------------


def test_a_unit_does_its_commands_one_after_another() -> None:
    assert last(norm(["a"], ["b"]), norm(["b"], ["c"])) == Order(after=NOTHING)


def test_what_the_engine_reads_it_has_read_by_its_next_job() -> None:
    assert last(engine(["a"], ["b"]), engine(["c"], ["a"])) == Order(after=NOTHING)
    reader, other = engine(["a"], ["b"]), engine(["c"], ["d"])
    assert last(reader, norm(["x"], ["a"])) == Order(after=Unit.ENGINE), "its latest job may still be reading"
    assert last(reader, other, norm(["x"], ["a"])) == Order(after=NOTHING)


def test_two_jobs_later_the_engine_has_written() -> None:
    jobs = [engine(["a"], ["b"]), engine(["c"], ["d"]), engine(["e"], ["f"])]
    assert last(*jobs[:2], engine(["b"], ["g"], row_by_row=False)) == Order(after=NOTHING)
    assert last(jobs[0], engine(["b"], ["g"], row_by_row=False)) == Order(after=Unit.ENGINE)
    assert last(*jobs, norm(["b"], ["g"])) == Order(after=NOTHING)


def test_what_settles_is_written_by_the_next_job() -> None:
    attention = engine(["q"], ["a"], settles=True)
    assert last(attention, engine(["a"], ["b"], row_by_row=False)) == Order(after=NOTHING)
    assert last(attention, norm(["a"], ["b"])) == Order(after=NOTHING, follow=Follow.ENGINE)


def test_who_reads_all_of_what_it_followed_knows_that_it_has_finished() -> None:
    """The job behind a job that followed LayerNorm to its last row may write what LayerNorm read."""
    walk = [norm(["s"], ["n"]), engine(["n"], ["q"])]
    assert last(*walk, engine(["x"], ["s"])) == Order(after=NOTHING)
    assert last(*walk, operation(Unit.STREAM, [], ["s"], in_rows=False)) == Order(after=Unit.NORM)
    part = [norm(["s"], ["n"]), engine([rows("n", 0, 4)], ["q"])]
    assert last(*part, engine(["x"], ["s"])) == Order(after=Unit.NORM), "rows 4 to 9 may still be under way"


def test_a_followers_follower_may_replace_the_rows_that_were_read() -> None:
    """A product onto the stream whose LayerNorm it follows, row by row, replaces rows that LayerNorm has read."""
    reads_norm = engine([rows("n"), rows("s")], ["s"])
    assert last(norm(["s"], ["n"]), reads_norm) == Order(after=NOTHING, follow=Follow.NORM)
    shifted = engine([rows("n", 0, 8)], [rows("s", 2, 8)])
    assert last(norm(["s"], ["n"]), shifted).after == Unit.NORM, "row 2 is replaced when row 0 has been read"


def test_what_was_awaited_has_finished() -> None:
    walk = [norm(["a"], ["b"]), engine(["b"], ["c"], row_by_row=False)]
    assert last(*walk, operation(Unit.STORE, ["b"], [], in_rows=False)) == Order(after=NOTHING)


def test_what_runs_alone_waits_for_everything() -> None:
    assert last(engine(["a"], ["b"]), engine(["x"], ["y"], alone=True)) == Order(after=EVERYTHING)
    assert last(norm(["a"], ["b"]), engine(["b"], ["y"], alone=True)) == Order(after=EVERYTHING), "and follows nothing"


def test_end_waits_for_everything() -> None:
    end = MachineOperation(unit=None, emit=lambda emitter, order: None)
    assert last(engine(["a"], ["b"]), end) == Order(after=EVERYTHING, follow=Follow.NOTHING)


# Tasks ----------------------------------------------------------------------------------------------------------------


def test_a_command_waits_for_what_any_task_needs() -> None:
    gates = [engine(["w"], ["scores"], tasks=(task,)) for task in (0, 1)]
    gate = operation(Unit.GATE, ["scores"], ["queue"], in_rows=False)
    assert ordered(*gates, gate, tasks=2)[-1] == Order(after=NOTHING, follow=Follow.ENGINE)
    stage = operation(Unit.STREAM, [], ["b"], in_rows=False, tasks=(1,))
    first = norm(["a"], ["b"], tasks=(0,))
    reader = engine(["b"], ["c"])
    assert ordered(first, stage, reader, tasks=2)[-1] == Order(after=Unit.NORM | Unit.STREAM)


def test_what_a_task_does_not_run_is_neither_awaited_nor_alive_there() -> None:
    walk = [norm(["a"], ["b"], tasks=(1,)), engine(["b"], ["c"], tasks=(1,)), engine(["x"], ["y"], tasks=(0,))]
    made = schedule(walk, 2)
    orders, lives = made.orders, made.lives
    assert orders[-1] == Order(after=NOTHING)
    assert set(lives[0]) == {"x", "y"} and set(lives[1]) == {"a", "b", "c"}


# Lives ----------------------------------------------------------------------------------------------------------------


def alive_together(lives: dict[str, Life], a: str, b: str) -> bool:
    return lives[a][0] <= lives[b][1] and lives[b][0] <= lives[a][1]


def test_a_region_lives_from_its_writer_to_its_last_reader() -> None:
    lives = lives_of(engine(["a"], ["b"]), engine(["x"], ["y"]), engine(["b"], ["c"]), engine(["p"], ["q"]))
    assert alive_together(lives, "b", "y") and not alive_together(lives, "b", "q")
    assert lives["b"][0] < lives["c"][0] <= lives["b"][1] < lives["q"][0]


def test_the_next_job_may_take_the_place_of_what_this_one_read() -> None:
    assert not alive_together(lives_of(engine(["a"], ["b"]), engine(["c"], ["d"])), "a", "d")


def test_another_unit_may_not_unless_it_waits() -> None:
    free = lives_of(engine(["a"], ["b"]), norm(["x"], ["n"]))
    assert alive_together(free, "a", "n"), "the engine may still be reading"
    waiting = lives_of(engine(["a"], ["b"], in_rows=False), norm(["b"], ["n"]))
    assert not alive_together(waiting, "a", "n")
    following = lives_of(engine(["a"], ["b"]), norm(["b"], ["n"]))
    assert alive_together(following, "a", "n"), "LayerNorm writes while the product still reads"


def test_what_other_units_read_is_in_use_until_they_are_known_to_have_finished() -> None:
    walk = [norm(["s"], ["n"]), engine(["n"], ["q"]), engine(["x"], ["y"]), engine(["v"], ["w"])]
    lives = lives_of(*walk)
    assert alive_together(lives, "s", "q") and not alive_together(lives, "s", "y")
    assert lives_of(norm(["s"], ["n"]), engine(["x"], ["y"]), engine(["v"], ["w"]))["s"][1] >= 4, "nobody asked"


# Whole networks -------------------------------------------------------------------------------------------------------


def compiled(model: ModelConfig, name: str) -> Program:
    config = preset(name)
    return compile_model(random_model(model, config.numerics, 0), config)


def fields(program: Program, command: Command) -> tuple[Unit, Follow]:
    _, found = decode(program.command_bytes(command.index))
    return Unit(found["after"]), Follow(found["follow"])


WANTED: dict[str, tuple[Unit, Follow]] = {
    "norm1": (NOTHING, Follow.ENGINE),
    "q": (NOTHING, Follow.NORM),
    "k": (NOTHING, Follow.NOTHING),
    "v": (Unit.STREAM, Follow.NOTHING),
    "v.weights": (NOTHING, Follow.NOTHING),
    "attention": (Unit.ENGINE, Follow.NOTHING),
    "residual_attention": (NOTHING, Follow.NOTHING),
    "norm2": (NOTHING, Follow.ENGINE),
    "hidden": (NOTHING, Follow.NORM),
    "residual": (NOTHING, Follow.ENGINE),
    "experts.gate": (NOTHING, Follow.NORM),
    "experts.route": (NOTHING, Follow.ENGINE),
    "experts": (Unit.GATE, Follow.NOTHING),
}
"""What a command of a layer waits for and follows, by its part; exceptions are below."""


@pytest.mark.parametrize(
    ("model", "name"), [(NANO, "tiny"), (NANO, "edge"), (M3VIT_TINY, "edge"), (M3VIT_TINY, "ecp5-85f")]
)
def test_orders_of_this_projects_networks(model: ModelConfig, name: str) -> None:
    program = compiled(model, name)
    after_experts = {f"layer{layer + 1:02d}.norm1" for layer in model.expert_layers}
    seen = {}
    for command in program.commands:
        if command.place:
            part = command.whole.removeprefix(f"{command.place}.")
            part = "experts.gate" if part.startswith("experts.gate.") else part
            seen.setdefault(part, set()).add((fields(program, command), command.whole in after_experts))
    for part, found in seen.items():
        for order, behind in found:
            assert order == ((Unit.ENGINE, Follow.NOTHING) if behind else WANTED[part]), part
    assert seen.keys() == WANTED.keys()


def test_orders_outside_of_layers() -> None:
    program = compiled(NANO, "tiny")
    found = {command.name: fields(program, command) for command in program.commands if not command.place}
    assert found["pixels"] == found["embed.init"] == (NOTHING, Follow.NOTHING)
    assert found["embed"] == (Unit.STREAM, Follow.IMAGE)
    assert found["norm_patches"] == (Unit.ENGINE, Follow.NOTHING), "experts finish rows in no order"
    for name in ("head.depth", "store.depth", "end"):
        assert found[name] == (EVERYTHING, Follow.NOTHING)


def test_orders_where_heads_and_tokens_are_cut() -> None:
    """DeiT-Small on edge: groups of heads, and tokens in blocks."""
    program = compiled(DEIT_SMALL, "edge")
    found = {command.name: fields(program, command) for command in program.commands if command.place == "layer03"}
    assert found["layer03.q.head0"] == (NOTHING, Follow.NORM)
    assert found["layer03.q.head1"] == (NOTHING, Follow.NOTHING)
    assert found["layer03.v.head1"] == (Unit.STREAM, Follow.NOTHING)
    assert found["layer03.v.weights.head1"] == (NOTHING, Follow.NOTHING), "they come beside the attention before"
    blocks = [name for name in found if name.startswith("layer03.hidden.tokens")]
    assert len(blocks) == 2
    assert [found[name] for name in blocks] == [(NOTHING, Follow.NORM)] * 2, "each block has a norm of its own"
