"""Copying topics between directories and clusters, exactly and resumably: see copier."""
