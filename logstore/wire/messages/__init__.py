"""Kafka's messages, one file an API: its request, its response, and what these are made of, under Kafka's names.

What a version is, and all that it holds, is Kafka's own: the tests compare each field with Kafka's message schemas.
"""
