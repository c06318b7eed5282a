"""Estimates of the ECP5 resources and the clock of a configuration, without synthesis."""
