"""From a board's name to a bitstream on the board, with open tools alone."""
