"""Kafka's requests and responses, one file an API, declared with ``logstore.wire.schema``."""
