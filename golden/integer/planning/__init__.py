"""Parts of the planner: what a tensor is while no step makes it, the steps that make it, and operators by subject."""
