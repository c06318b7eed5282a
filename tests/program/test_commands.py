"""A command's name follows from what it makes and of which heads or tokens, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tessera.program.commands import Command, CommandKind, Phase, Span

COMMAND = Command(
    index=3,
    whole="layer03.attention",
    span=None,
    kind=CommandKind.ATTENTION,
    phase=Phase.ATTENTION,
    place="layer03",
    op="ATTENTION",
    task_mask=0b10,
    macs=1,
    ideal_cycles=2,
    stream_bytes=0,
    tensors=(),
)


@pytest.mark.parametrize(
    ("whole", "span", "name"),
    [
        ("layer03.attention", None, "layer03.attention"),
        ("layer11.q", Span("head", 1, 1), "layer11.q.head1"),
        ("layer00.hidden", Span("token", 0, 24), "layer00.hidden.tokens0-24"),
        ("end", None, "end"),
    ],
)
def test_names(whole: str, span: Span | None, name: str) -> None:
    command = replace(COMMAND, whole=whole, span=span, mixture="layer01.experts")
    assert command.name == name
    assert Command.from_dict(command.to_dict()) == command


def test_tasks() -> None:
    assert COMMAND.runs(1) and not COMMAND.runs(0)
