"""The weight stream: blocks of weights from memory to the banks, parameters and staged rows."""
