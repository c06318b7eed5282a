"""The sequencer: command fetch, the dispatcher, and the weight stream's scheduler walking ahead of it."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.blocks.register_slice import RegisterSlice
from hw.config import AcceleratorConfig
from hw.interfaces.axi import read_request_layout
from hw.interfaces.jobs import stream_job_layout
from hw.interfaces.strobe import Strobe
from hw.sequencer.dispatch import Dispatcher, dispatcher_members
from hw.sequencer.fetch import CommandFetch
from hw.sequencer.schedule import StreamScheduler

_OWN = ("command", "task_index")


class Sequencer(wiring.Component):
    """Runs a program from memory.

    Parameters
    ----------
    config:
        Sizes of the machine.
    job_layouts:
        Payload of each unit's job stream (see :class:`Dispatcher`).

    Members
    -------
    task_index, program_address, weight_address:
        From the registers; stable while busy.
    request, response:
        Client port of the AXI read master, for commands.
    stream_job:
        Blocks of the weight stream, in order of use, ahead of execution.
    others:
        As in :class:`Dispatcher`.
    """

    def __init__(self, config: AcceleratorConfig, job_layouts: Mapping[str, data.StructLayout]) -> None:
        self._config = config
        self._layouts = job_layouts
        self._passed = {
            name: member for name, member in dispatcher_members(config, job_layouts).items() if name not in _OWN
        }
        super().__init__(
            {
                "task_index": In(4),
                "program_address": In(32),
                "weight_address": In(32),
                "request": Out(stream.Signature(read_request_layout(config))),
                "response": In(Strobe(8 * config.memory_bytes)),
                "stream_job": Out(stream.Signature(stream_job_layout(config))),
                **self._passed,
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire the three parts."""
        m = Module()
        m.submodules.fetch = fetch = CommandFetch(self._config)
        m.submodules.scheduler = scheduler = StreamScheduler(self._config)
        m.submodules.dispatcher = dispatcher = Dispatcher(self._config, self._layouts)
        connect(m, flipped(self.request), fetch.request)
        connect(m, flipped(self.response), fetch.response)
        m.submodules.scheduled = scheduled = RegisterSlice(stream_job_layout(self._config))
        connect(m, scheduler.job, scheduled.source)
        connect(m, scheduled.target, flipped(self.stream_job))
        connect(m, fetch.execute, dispatcher.command)
        connect(m, fetch.schedule, scheduler.command)
        m.d.comb += [
            fetch.start.eq(self.start),
            fetch.program_address.eq(self.program_address),
            dispatcher.task_index.eq(self.task_index),
            scheduler.task_index.eq(self.task_index),
            scheduler.weight_address.eq(self.weight_address),
            scheduler.counts.eq(self.counts),
            scheduler.dispatch_index.eq(dispatcher.index),
            scheduler.dispatch_experts.eq(dispatcher.experts_active),
        ]
        for name, member in self._passed.items():
            inner, outer = getattr(dispatcher, name), getattr(self, name)
            if not member.is_port:
                connect(m, flipped(outer), inner)
                continue
            pairs = zip(inner, outer, strict=True) if member.dimensions else [(inner, outer)]
            m.d.comb += [i.eq(o) if member.flow is In else o.eq(i) for i, o in pairs]
        return m
