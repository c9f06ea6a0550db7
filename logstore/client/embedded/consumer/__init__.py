"""Consuming from a directory of this process: reading, positions and commits, and membership in groups."""
