"""Models: found by name, and imported from other projects' files."""
