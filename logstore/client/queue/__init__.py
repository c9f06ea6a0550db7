"""The durable queue: messages in a topic, and what became of each in another."""
