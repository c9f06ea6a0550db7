"""Load for a broker by a client that costs as little as can be: requests encoded once, answers only counted.

    python -m bench.load HOST:PORT WORKLOAD [NAME=VALUE ...]      prints {"figure": number, ...} as JSON

A process of its own, so that it has the other core. It speaks versions that Apache Kafka 4 and logstore both know, and
does to both exactly the same. Every answer's length is read, and of Produce answers the error codes: a refused request
ends the run.
"""

import json
import select
import socket
import sys
from collections.abc import Callable, Sequence
from struct import Struct
from time import perf_counter, perf_counter_ns, sleep

from logstore.format.batch import batches, encode_batch
from logstore.wire.header import RequestHeader
from logstore.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from logstore.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from logstore.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from logstore.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from logstore.wire.schema import Message

_SIZE = Struct(">i")
# (API key, version): none is flexible
_PRODUCE, _FETCH, _LIST_OFFSETS, _CREATE_TOPICS = (0, 7), (1, 11), (2, 5), (19, 4)
_VALUE = b"m" * 100
_READ_SIZE = 1 << 20
_TOPIC_EXISTS = 36


def frame(api: tuple[int, int], message: Message, correlation_id: int = 0) -> bytes:
    key, version = api
    request = RequestHeader(key, version, correlation_id, "bench").encode() + message.encode(version)
    return _SIZE.pack(len(request)) + request


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(connection: socket.socket, request: bytes) -> bytes:
    """The answer behind its correlation id."""
    connection.sendall(request)
    return receive(connection)[4:]


def receive(connection: socket.socket) -> bytes:
    (size,) = _SIZE.unpack(_read(connection, 4))
    return _read(connection, size)


def _read(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise SystemExit("the broker closed the connection")
        data += piece
    return bytes(data)


# ------------------------------------------------------------------------------------------------------------ requests


def batch(record_count: int, value: bytes = _VALUE) -> bytes:
    return encode_batch([value] * record_count, timestamps_ms=perf_counter_ns() // 10**6 + 1_700_000_000_000)


def produce(topic: str, partition: int, records: bytes, acks: int) -> bytes:
    data = TopicProduceData(topic, partition_data=(PartitionProduceData(partition, records),))
    return frame(_PRODUCE, ProduceRequest(acks=acks, timeout_ms=30_000, topic_data=(data,)))


def fetch(topic: str, partition: int, offset: int, max_bytes: int, max_wait_ms: int = 500) -> bytes:
    wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes)
    topics = (FetchTopic(topic=topic, partitions=(wanted,)),)
    request = FetchRequest(
        max_wait_ms=max_wait_ms, min_bytes=1, max_bytes=max_bytes, session_id=0, session_epoch=-1, topics=topics
    )
    return frame(_FETCH, request)


def check_produced(answer: bytes) -> None:
    """``answer``: behind the correlation id."""
    for topic in ProduceResponse.decode(answer, _PRODUCE[1]).responses:
        for partition in topic.partition_responses:
            if partition.error_code:
                raise SystemExit(f"produce to {topic.name}-{partition.index}: error {partition.error_code}")


def create_topic(address: str, topic: str, partition_count: int) -> None:
    """Returns when every partition has a leader, and takes records."""
    with connect(address) as connection:
        wanted = CreatableTopic(name=topic, num_partitions=partition_count, replication_factor=1)
        request = frame(_CREATE_TOPICS, CreateTopicsRequest(topics=(wanted,), timeout_ms=60_000))
        (created,) = CreateTopicsResponse.decode(ask(connection, request), _CREATE_TOPICS[1]).topics
        if created.error_code not in (0, _TOPIC_EXISTS):
            raise SystemExit(f"create {topic}: error {created.error_code} {created.error_message}")
        # A leader that Kafka's metadata tells of may not know of it yet: who has an end takes records.
        latest = [ListOffsetsPartition(number, timestamp=-1) for number in range(partition_count)]
        topics = (ListOffsetsTopic(topic, latest),)
        request = frame(_LIST_OFFSETS, ListOffsetsRequest(replica_id=-1, topics=topics))
        deadline = perf_counter() + 60
        while True:
            (listed,) = ListOffsetsResponse.decode(ask(connection, request), _LIST_OFFSETS[1]).topics
            errors = {one.error_code for one in listed.partitions} - {0}
            if not errors:
                return
            if perf_counter() > deadline:
                raise SystemExit(f"{topic} does not take records: errors {sorted(errors)}")
            sleep(0.05)


# ------------------------------------------------------------------------------------------------------------ the load


class _Driven:
    """A connection with one request under way: the next of ``requests``, in turn, when the answer is there."""

    __slots__ = ("check", "first", "left", "next", "requests", "socket")

    def __init__(self, address: str, requests: Sequence[bytes], first: int, check: Callable[[bytes], None] | None):
        self.socket = connect(address)
        self.requests = requests
        self.next = first
        self.left = 0  # of the answer's bytes
        self.first = b""
        self.check = check

    def send(self) -> None:
        self.socket.sendall(self.requests[self.next % len(self.requests)])
        self.next += 1

    def take(self, buffer: memoryview) -> bool:
        """Whether the answer is whole now."""
        if not self.left:
            count = self.socket.recv_into(buffer)
            if not count:
                raise SystemExit("the broker closed the connection")
            (size,) = _SIZE.unpack_from(buffer)
            self.left = size + 4 - count
            if self.check is not None:
                self.check(bytes(buffer[8:count]))
        else:
            self.left -= self.socket.recv_into(buffer[: self.left])
        return self.left == 0


def drive(
    address: str, per_connection: Sequence[Sequence[bytes]], count: int, check: Callable[[bytes], None] | None = None
) -> float:
    """``count`` requests over all connections, each with one under way: seconds."""
    driven = {}
    poll = select.epoll()
    for number, requests in enumerate(per_connection):
        one = _Driven(address, requests, number, check)
        driven[one.socket.fileno()] = one
        poll.register(one.socket, select.EPOLLIN)
    buffer = memoryview(bytearray(_READ_SIZE))
    started = perf_counter()
    to_send, to_come = count, count
    for one in list(driven.values())[:to_send]:
        one.send()
        to_send -= 1
    while to_come:
        for fd, _ in poll.poll():
            one = driven[fd]
            if one.take(buffer):
                to_come -= 1
                if to_send:
                    to_send -= 1
                    one.send()
    seconds = perf_counter() - started
    for one in driven.values():
        one.socket.close()
    poll.close()
    return seconds


def run_produce(
    address: str, topic: str, connections: int, records: int, count: int, acks: int, partitions: int
) -> dict[str, float]:
    """``count`` requests of one batch of ``records``; every connection goes through the partitions in turn."""
    data = batch(records)
    requests = [produce(topic, partition, data, acks) for partition in range(partitions)]
    seconds = drive(address, [requests] * connections, count, check_produced)
    return {"requests": count / seconds, "records": records * count / seconds, "MB": len(data) * count / seconds / 1e6}


def run_fetch(
    address: str, topic: str, batch_records: int, batch_count: int, max_bytes: int, count: int
) -> dict[str, float]:
    """``count`` fetches of ``max_bytes`` from offsets all over the log, by one connection."""
    size = len(batch(batch_records))
    step = max(1, max_bytes // size)
    first_batches = range(0, batch_count - step, step)
    requests = [fetch(topic, 0, number * batch_records, max_bytes) for number in first_batches]
    with connect(address) as connection:
        answer = ask(connection, requests[0])
    answer_size = len(answer)
    if answer_size < max_bytes // 2:
        raise SystemExit(f"fetch {topic}: instead of {max_bytes} bytes there came {answer_size}: {answer[:100]!r}")
    seconds = drive(address, [requests], count)
    return {"MB": answer_size * count / seconds / 1e6}


def run_latency(address: str, topic: str, rate: int, count: int) -> dict[str, float]:
    """``rate`` messages a second, each in a request of its own, and a consumer that waits: from before the send until
    the record is decoded, in microseconds."""
    producer, consumer = connect(address), connect(address)
    poll = select.epoll()
    poll.register(producer, select.EPOLLIN)
    poll.register(consumer, select.EPOLLIN)
    latencies: list[float] = []
    offset = sent = 0
    consumer.sendall(fetch(topic, 0, offset, _READ_SIZE))
    started = perf_counter() + 0.2
    while len(latencies) < count:
        due = started + sent / rate
        for fd, _ in poll.poll(max(0.0, due - perf_counter()) if sent < count else -1):
            if fd == producer.fileno():
                check_produced(receive(producer)[4:])
                continue
            answer = receive(consumer)
            now = perf_counter_ns()
            # Of one partition the records are the last field.
            position = len(answer) - records_size(answer)
            for found in batches(answer, position):
                for record in found.records_from(offset):
                    latencies.append((now - int(record.value or b"")) / 1000)
                    offset = record.offset + 1
            consumer.sendall(fetch(topic, 0, offset, _READ_SIZE))
        if sent < count and perf_counter() >= due:
            producer.sendall(produce(topic, 0, batch(1, b"%0100d" % perf_counter_ns()), 1))
            sent += 1
    latencies.sort()
    return {"p50": latencies[count // 2], "p99": latencies[count * 99 // 100]}


def records_size(answer: bytes) -> int:
    """Of a Fetch v11 answer of one topic with one partition and no aborted transactions, correlation id included."""
    position = 4 + 4 + 2 + 4 + 4  # correlation id, throttle time, error, session id, topic count
    position += 2 + int.from_bytes(answer[position : position + 2])  # the topic's name
    position += 4 + 4 + 2 + 8 + 8 + 8  # partition count, index, error, high watermark, last stable and start offset
    position += 4 + 4  # count of aborted transactions (-1 or 0), preferred replica
    return max(0, _SIZE.unpack_from(answer, position)[0])


def main() -> None:
    address, workload, *rest = sys.argv[1:]
    settings = {
        name: int(value) if value.lstrip("-").isdigit() else value for name, value in (item.split("=") for item in rest)
    }
    workloads = {"produce": run_produce, "fetch": run_fetch, "latency": run_latency}
    print(json.dumps(workloads[workload](address, **settings)))  # type: ignore[operator]


if __name__ == "__main__":
    main()
