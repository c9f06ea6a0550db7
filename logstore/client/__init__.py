"""Clients of a log: what decides where a record goes, and who reads it."""
