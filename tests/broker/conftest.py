"""The fixtures for tests with real clients are at hand in this folder; nothing is started before a test asks for it."""

from kafka_brokers import agent, agents, broker_address, more_agents, topic  # noqa: F401
