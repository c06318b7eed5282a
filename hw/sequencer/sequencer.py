"""The sequencer: command fetch, the dispatcher, and the weight stream's scheduler walking ahead of it."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import read_request_layout
from tessera.hw.interfaces.jobs import stream_job_layout
from tessera.hw.interfaces.sequencer import ProgramProgress, RunOrder, UnitPorts
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.sequencer.dispatch import Dispatcher
from tessera.hw.sequencer.fetch import CommandFetch
from tessera.hw.sequencer.schedule import StreamScheduler


class Sequencer(wiring.Component):
    """Runs a program from memory: fetches its commands, hands them to the units, and prefetches their weights.

    Design: the fetch shows every command to two readers. The scheduler turns commands into jobs of the weight stream
    and runs ahead; the dispatcher hands the same commands to the units in order. See the three parts for latencies.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    run: In(RunOrder)
        Start, task and addresses of a run.
    request: Out(stream), response: In(Strobe)
        Client port of the AXI read master, for commands.
    stream_job: Out(stream)
        Blocks of the weight stream, in order of use, ahead of execution.
    units: Out(UnitPorts)
        Jobs and account of each unit.
    progress: Out(ProgramProgress)
        How far the program has come.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "run": In(RunOrder()),
                "request": Out(stream.Signature(read_request_layout(config))),
                "response": In(Strobe(8 * config.memory_bytes)),
                "stream_job": Out(stream.Signature(stream_job_layout(config))),
                "units": Out(UnitPorts(config)),
                "progress": Out(ProgramProgress(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire the three parts."""
        m = Module()
        m.submodules.fetch = fetch = CommandFetch(self._config)
        m.submodules.scheduler = scheduler = StreamScheduler(self._config)
        m.submodules.dispatcher = dispatcher = Dispatcher(self._config)
        # The scheduler stands among the commands, the stream among the banks: a register on the way between them.
        m.submodules.scheduled = scheduled = RegisterSlice(stream_job_layout(self._config))
        connect(m, flipped(self.request), fetch.request)
        connect(m, flipped(self.response), fetch.response)
        connect(m, fetch.execute, dispatcher.command)
        connect(m, fetch.schedule, scheduler.command)
        connect(m, scheduler.job, scheduled.source)
        connect(m, scheduled.target, flipped(self.stream_job))
        connect(m, flipped(self.run), fetch.run, dispatcher.run, scheduler.run)
        connect(m, dispatcher.units, flipped(self.units))
        connect(m, dispatcher.progress, flipped(self.progress))
        m.d.comb += [
            scheduler.counts.eq(self.units.gate.report.counts),
            scheduler.dispatch_index.eq(dispatcher.progress.index),
            scheduler.dispatch_experts.eq(dispatcher.experts_active),
        ]
        return m
