"""Software for the user: command line, quantiser, compiler, verifier, reports, FPGA flow and host driver."""
