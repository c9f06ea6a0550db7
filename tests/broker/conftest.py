"""The fixtures for tests with real clients are at hand in this folder; nothing is started before a test asks for it."""

from kafka_brokers import agent, agents, broker_address, more_agents, topic  # noqa: F401
from wire_admin import admin, own  # noqa: F401
from wire_members import group_broker, group_settings  # noqa: F401
