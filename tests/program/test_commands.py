"""A command's name follows from what it does, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tessera.program.commands import Command, CommandKind, Label, Phase, Span

COMMAND = Command(
    index=3,
    label=Label(CommandKind.ATTENTION),
    phase=Phase.ATTENTION,
    layer=3,
    op="ATTENTION",
    task_mask=0b10,
    macs=1,
    ideal_cycles=2,
    stream_bytes=0,
    tensors=(),
)


@pytest.mark.parametrize(
    ("label", "layer", "name", "whole"),
    [
        (Label(CommandKind.ATTENTION), 3, "layer03.attention", "layer03.attention"),
        (Label(CommandKind.QUERY, Span("head", 1, 1)), 11, "layer11.query.head1", "layer11.query"),
        (Label(CommandKind.FC1, Span("token", 0, 24)), 0, "layer00.fc1.tokens0-24", "layer00.fc1"),
        (Label(CommandKind.GATE, task="depth"), 1, "layer01.gate.depth", "layer01.gate.depth"),
        (Label(CommandKind.HEAD, task="depth"), None, "head.depth", "head.depth"),
        (Label(CommandKind.INITIAL_RESIDUAL), None, "residual.init", "residual.init"),
        (Label(CommandKind.END), None, "end", "end"),
    ],
)
def test_names(label: Label, layer: int | None, name: str, whole: str) -> None:
    command = replace(COMMAND, label=label, layer=layer)
    assert (command.name, command.whole, command.kind) == (name, whole, label.kind)
    assert Command.from_dict(command.to_dict()) == command


def test_layer_of_experts_and_tasks() -> None:
    assert COMMAND.expert_layer == 3 and COMMAND.runs(1) and not COMMAND.runs(0)
    with pytest.raises(AssertionError, match="attention belongs to no layer"):
        _ = replace(COMMAND, layer=None).expert_layer
