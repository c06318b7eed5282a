"""Networks as graphs of typed operators on named tensors: what float model, quantiser and compiler walk."""
