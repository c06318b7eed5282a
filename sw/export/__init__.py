"""The machine as files for somebody else's chip: Verilog with standard buses, register map, description, test bench."""
