"""Trace ports: writes into on-chip memories, for verification, and the weight stream's requests, for the timeline."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Out

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import read_request_layout
from tessera.hw.interfaces.compute import query_scale_layout
from tessera.hw.interfaces.gate import queue_write_layout
from tessera.hw.interfaces.jobs import place_layout
from tessera.hw.interfaces.memory import (
    bank_exponentials_layout,
    residual_write_layout,
    score_write_layout,
    scratch_write_layout,
)


def query_trace_layout(config: AcceleratorConfig) -> data.StructLayout:
    """The output scales of a query tile, as softmax has worked them out.

    Members
    -------
    address:
        Attention buffer of the tile.
    scales:
        One scale per query.
    """
    return data.StructLayout({"address": 1, "scales": data.ArrayLayout(query_scale_layout(config), config.elements)})


def trace_payloads(config: AcceleratorConfig) -> dict[str, data.Layout]:
    """Payloads of the trace ports: one for each memory that commands write, and the weight stream's requests."""
    return {
        "scratchpad": scratch_write_layout(config),
        "residual": residual_write_layout(config),
        "score": score_write_layout(config),
        "exponential": bank_exponentials_layout(config),
        "queue": queue_write_layout(config),
        "query": query_trace_layout(config),
        "stream": read_request_layout(config),
    }


class TracePort(wiring.Signature):
    """One kind of event, from the machine's side.

    Parameters
    ----------
    payload:
        Layout of the event.

    Members
    -------
    valid, payload:
        An event, without backpressure.
    place:
        Whose it is (``tessera.hw.interfaces.jobs.place_layout``): command, its expert << 16, second expert matrix <<
        31.
    """

    def __init__(self, config: AcceleratorConfig, payload: data.Layout) -> None:
        super().__init__({"valid": Out(1), "payload": Out(payload), "place": Out(place_layout(config))})


class TracePorts(wiring.Signature):
    """A :class:`TracePort` for each of :func:`trace_payloads`, by its name."""

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__({name: Out(TracePort(config, payload)) for name, payload in trace_payloads(config).items()})


def _show(m: Module, port: wiring.PureInterface, valid: Value, payload: data.View, place: data.View) -> None:
    m.d.comb += [port.valid.eq(valid), port.payload.eq(payload), port.place.eq(place)]


def trace_write(m: Module, port: wiring.PureInterface, write: wiring.PureInterface, place: data.View) -> None:
    """Show every write of a strobe, as it happens."""
    _show(m, port, write.valid, write.payload, place)


def trace_transfers(m: Module, port: wiring.PureInterface, source: stream.Interface, place: data.View) -> None:
    """Show every transfer of a stream, as it happens."""
    _show(m, port, source.valid & source.ready, source.payload, place)


def trace_queries(m: Module, port: wiring.PureInterface, softmax: wiring.Component, place: data.View) -> None:
    """Show the scales of a query tile once softmax is done with it; two tiles lie side by side in its registers."""
    # The buffer is known with the job, but the scales are shown when it is done: so it is remembered meanwhile.
    buffer = Signal()
    with m.If(softmax.job.valid & softmax.job.ready):
        m.d.sync += buffer.eq(softmax.job.payload.buffer)
    # The event is whole before it is shown, so that it is assigned like the others.
    event = Signal(port.payload.shape(), name="query_event")
    m.d.comb += event.address.eq(buffer)
    for query, scale in enumerate(event.scales):
        first, second = softmax.query_scales[query], softmax.query_scales[len(event.scales) + query]
        m.d.comb += scale.eq(Mux(buffer, second, first))
    _show(m, port, softmax.done, event, place)
