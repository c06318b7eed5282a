"""The weight stream: it moves blocks of weights from memory to banks, parameters and staged rows."""
