"""A whole board in simulation: accelerator, memory and the serial link."""
