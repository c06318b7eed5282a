"""LayerNorm of the residual stream: statistics, normalisation lanes, and the walk over rows."""
