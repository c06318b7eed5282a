"""What the user runs: command line, quantiser, compiler, verifier, reports, host driver."""
