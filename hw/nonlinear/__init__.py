"""Units that compute nonlinear functions: GELU, softmax, LayerNorm and the gate."""
