"""The host's view of the machine: registers, counters, time stamps, and the life of a run."""
