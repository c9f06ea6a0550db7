"""For tests of code that uses Kafka."""
