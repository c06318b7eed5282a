"""The whole machine in simulation: settings, frames, the run, and its traces."""
