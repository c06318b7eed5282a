"""From a design to a compiled simulator: Verilog export, Verilator, the C++ compiler."""
