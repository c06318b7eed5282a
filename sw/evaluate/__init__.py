"""Scores of a model over many scenes, in float, integers and RTL."""
