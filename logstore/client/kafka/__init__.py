"""The same producer and consumer on a Kafka cluster, through librdkafka."""
