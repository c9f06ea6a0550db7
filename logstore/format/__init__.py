"""Kafka's bytes: values <-> buffers. No files, no sockets, no clocks."""
