"""Files: segments, indexes, partitions, data directories. Blocking; never imports asyncio."""
