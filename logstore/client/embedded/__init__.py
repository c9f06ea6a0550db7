"""Producer and consumer of a data directory that this process owns."""
