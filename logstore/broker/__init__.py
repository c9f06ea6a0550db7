"""A small Kafka broker over a data directory: sockets in, the store's calls out. ``logstore serve`` starts it."""
