"""What stands between the accelerator and the pins of a board."""
