"""Single-pass softmax: exponentials, row sums, and the scale of each query."""
