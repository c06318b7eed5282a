"""The host's view of the machine: control registers, counters, time stamps, and the start and end of a run."""
