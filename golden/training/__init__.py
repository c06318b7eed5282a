"""Training of the float model: recipes, the pool of scenes, the loop, and its resumable state."""
