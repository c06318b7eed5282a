"""Basics that every part of the project uses: files written aside, one cache, progress, and the machine's tools."""
