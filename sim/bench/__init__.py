"""Test benches of single units under cocotb: runner, streams, packing of ports, and the back door to memories."""
