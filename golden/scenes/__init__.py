"""Procedural street scenes: pictures with exact classes and depths."""
