"""Producing into a directory of this process: batches made in memory, stored by a thread."""
