"""The whole machine in simulation: settings, frames, results, and the traces of a run."""
