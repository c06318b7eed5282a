"""Command fetch, dispatch in order, and scheduling of the weight stream ahead of execution."""
