"""Models, found by name or imported from other projects' files."""
