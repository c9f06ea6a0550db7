"""Consumer groups whose partitions the coordinator hands out (KIP-848): pure; the coordinator stores and calls."""
