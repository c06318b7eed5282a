"""What the sequencer says to the units and to the registers, and what it hears from them."""

from __future__ import annotations

from amaranth.hdl import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.errors import error_record_layout
from tessera.hw.interfaces.gate import queue_counts_layout
from tessera.hw.interfaces.jobs import (
    engine_job_layout,
    gate_job_layout,
    image_job_layout,
    layernorm_job_layout,
    place_layout,
    store_job_layout,
)
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import BYTE_ADDRESS_WIDTH, COMMAND_INDEX_WIDTH, COUNT_WIDTH, TASK_INDEX_WIDTH, StallSource


def run_settings_layout() -> data.StructLayout:
    """What a run works on: values of registers, stable from the start of the run to its end."""
    return data.StructLayout(
        {
            "task_index": TASK_INDEX_WIDTH,  # the selected task: commands of other tasks are passed over
            "program_address": BYTE_ADDRESS_WIDTH,  # byte address of command 0, a multiple of 64
            "weight_address": BYTE_ADDRESS_WIDTH,  # byte address that stream addresses are relative to
            "image_base": BYTE_ADDRESS_WIDTH,  # byte address of the image
            "output_base": BYTE_ADDRESS_WIDTH,  # byte address that offsets of STORE and stored blocks are relative to
        }
    )


class RunOrder(wiring.Signature):
    """Order to run a program, from the side of the registers.

    Members
    -------
    start: Out(1)
        Pulse: run from command 0.
    settings: Out(run_settings)
        Task and addresses of the run, stable until it ends.
    """

    def __init__(self) -> None:
        super().__init__({"start": Out(1), "settings": Out(run_settings_layout())})


class UnitReport(wiring.Signature):
    """What a unit and the sequencer say to each other while the unit works, from the unit's side.

    Parameters
    ----------
    members:
        What they say besides; see the functions below.

    Members
    -------
    done: Out(1)
        Pulse: the unit's oldest job is done.
    """

    def __init__(self, **members: wiring.Member) -> None:
        super().__init__({"done": Out(1), **members})


def engine_report() -> UnitReport:
    """Report of the engine, which follows units and is followed.

    Members
    -------
    rows_ready: In(16)
        Source rows that the unit may read.
    row_written: Out(1)
        Pulse: the engine's oldest job has written a row.
    """
    return UnitReport(rows_ready=In(COUNT_WIDTH), row_written=Out(1))


def layernorm_report() -> UnitReport:
    """Report of LayerNorm, which follows units and is followed.

    Members
    -------
    rows_ready: In(16)
        Source rows that the unit may read.
    rows_done: Out(16)
        Rows that the unit has written in its job.
    """
    return UnitReport(rows_ready=In(COUNT_WIDTH), rows_done=Out(COUNT_WIDTH))


def gate_report(config: AcceleratorConfig) -> UnitReport:
    """Report of the gate, which follows units.

    Members
    -------
    rows_ready: In(16)
        Tokens whose logits the unit may read.
    counts: Out(queue_counts)
        Tokens on each expert's queue.
    """
    return UnitReport(rows_ready=In(COUNT_WIDTH), counts=Out(queue_counts_layout(config)))


def image_report() -> UnitReport:
    """Report of the image loader, which is followed.

    Members
    -------
    rows_done: Out(16)
        Patches that the unit has written in its job.
    """
    return UnitReport(rows_done=Out(COUNT_WIDTH))


def stream_report() -> UnitReport:
    """Report of the weight stream; ``done`` is of a block that belongs to the current command.

    Members
    -------
    permit: In(1)
        Level: a block that belongs to the current command may be delivered.
    """
    return UnitReport(permit=In(1))


class UnitPort(wiring.Signature):
    """The sequencer's account of one unit and its dealings with it, from the sequencer's side.

    Parameters
    ----------
    config:
        Sizes of the machine.
    report:
        What the unit and the sequencer say to each other while it works.
    job:
        Layout of the unit's jobs; none for the weight stream, whose jobs run ahead of the commands.

    Members
    -------
    job: Out(stream)
        Jobs in program order.
    report: In(UnitReport)
        What the unit says of its jobs.
    busy: Out(1)
        The unit has jobs.
    awaited: Out(1)
        The next command waits for the unit.
    place: Out(place)
        Place of the unit's oldest job, or of its last one when it has none.
    ended: Out(1)
        Pulse: the command at ``place`` is done.
    """

    def __init__(self, config: AcceleratorConfig, report: UnitReport, job: data.StructLayout | None = None) -> None:
        always = {
            "report": In(report),
            "busy": Out(1),
            "awaited": Out(1),
            "place": Out(place_layout(config)),
            "ended": Out(1),
        }
        jobs = {} if job is None else {"job": Out(stream.Signature(job))}
        super().__init__({**always, **jobs})


class UnitPorts(wiring.Signature):
    """One :class:`UnitPort` for each unit of ``tessera.hw.isa.Unit``, in the order of their bits.

    Members
    -------
    engine, layernorm, gate, image, stream, store:
        The units. ``stream`` stands for the blocks that belong to the current command: STAGE, LOAD_RESIDUAL and the
        shifts of LAYERNORM.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(
            {
                "engine": Out(UnitPort(config, engine_report(), engine_job_layout(config))),
                "layernorm": Out(UnitPort(config, layernorm_report(), layernorm_job_layout())),
                "gate": Out(UnitPort(config, gate_report(config), gate_job_layout())),
                "image": Out(UnitPort(config, image_report(), image_job_layout(config))),
                "stream": Out(UnitPort(config, stream_report())),
                "store": Out(UnitPort(config, UnitReport(), store_job_layout(config))),
            }
        )


def in_unit_order(units: wiring.PureInterface) -> tuple[wiring.PureInterface, ...]:
    """The ports in ``units`` (:class:`UnitPorts`), as a tuple in the order of ``tessera.hw.isa.Unit``."""
    return units.engine, units.layernorm, units.gate, units.image, units.stream, units.store


class ProgramProgress(wiring.Signature):
    """How far the program has come, from the sequencer's side.

    Members
    -------
    index: Out(16)
        Index of the next command to hand out.
    started: Out(1)
        Pulse: command ``index`` was handed out. For LAYERNORM: its shifts were asked for; for EXPERTS: its loop began.
    engine_place: Out(place)
        Place of the engine's latest job.
    finished: Out(1)
        Pulse: END was reached and every command is done.
    error: Out(Strobe)
        A command was refused; the sequencer then stays halted until it is reset.
    stalled_on: Out(3)
        A ``StallSource``: the unit that the watchdog names when nothing moves.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(
            {
                "index": Out(COMMAND_INDEX_WIDTH),
                "started": Out(1),
                "engine_place": Out(place_layout(config)),
                "finished": Out(1),
                "error": Out(Strobe(error_record_layout())),
                "stalled_on": Out(unsigned(max(StallSource).bit_length())),
            }
        )
