"""Real Kafka clients, unmodified, behind one small interface for tests.

Each client is an *agent*: a process that is told what to do, and tells what happened, in lines of JSON. Those in Python
stand here beside each other (confluent, kafka_python, aio), over one loop (serving); kafkajs, franz-go and Java have
programs of their own in tests/clients/ that speak the same. ``agent`` is the tests' side of it, ``programs`` how each
is started. kcat is run once for each thing that it does (``kcat``), and so are Kafka's own tools (``java_tools``).
"""
