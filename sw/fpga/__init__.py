"""From the RTL to an FPGA: synthesis, resources, bitstreams."""
