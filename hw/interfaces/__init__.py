"""Bundles that travel between units: every layout and signature, each field with a sentence and its unit.

A *strobe* is a payload with ``valid`` and no backpressure: the receiver must take it. Streams are Amaranth's
``stream.Signature`` (valid, ready, payload; the payload is stable until accepted). Memory reads have a fixed latency
and no valid of their own.
"""
