"""Kafka's protocol, sans-io: bytes <-> messages. No sockets, files or clocks; imports only format and errors."""
