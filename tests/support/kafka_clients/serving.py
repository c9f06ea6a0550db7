"""The loop of the agents that are written in Python: lines of JSON in, lines of JSON out (see ``agent``).

A module for one client is a program: it has a class with the methods of ``Client`` below, and ends with ``serve(it)``.
"""

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from kafka_clients.records import Received, Sent, sent_from_json, to_json

POLL_S = 0.05
_output = threading.Lock()
_replies = os.fdopen(os.dup(1), "w")


class Consumer(Protocol):
    def assign(self, topic: str, partition: int, offset: int) -> None: ...
    def subscribe(self, topics: list[str]) -> None: ...
    def poll(self, timeout_s: float) -> list[Received]: ...
    def assignment(self) -> list[tuple[str, int]]: ...
    def commit(self) -> list[tuple[str, int, int]]: ...
    def pause(self, topic: str, partition: int) -> None: ...
    def resume(self, topic: str, partition: int) -> None: ...
    def seek(self, topic: str, partition: int, offset: int) -> None: ...
    def close(self) -> None: ...


class StreamingProducer(Protocol):
    def send(self, topic: str, partition: int, value: bytes, done: Callable[[int, str | None], None]) -> None:
        """``done`` is told the offset, or what went wrong, from any thread."""

    def work(self) -> None:
        """Let callbacks happen, for a moment."""

    def close(self) -> None:
        """Wait until all is answered."""


class Client(Protocol):
    """Beside these, each other public method is an operation on its own: create_topic, topics, committed..."""

    def produce(self, records: list[Sent], settings: dict[str, Any]) -> list[int]: ...
    def consumer(self, group: str | None, settings: dict[str, Any]) -> Consumer: ...
    def streaming_producer(self, settings: dict[str, Any]) -> StreamingProducer: ...


def serve(client: Client) -> None:
    """Until standard input ends."""
    sys.stdout = sys.stderr  # what a library prints is no answer
    operations = _Operations(client)
    for line in sys.stdin:
        call = json.loads(line)
        number, op = call.pop("id"), call.pop("op")
        try:
            run = getattr(operations, op, None) or getattr(client, op)
            say({"id": number, "ok": run(**call)})
        except Exception as error:  # noqa: BLE001  # it is told to the test
            traceback.print_exc()
            say({"id": number, "error": f"{type(error).__name__}: {error}"})
    sys.stderr.flush()
    os._exit(0)


def say(message: dict[str, Any]) -> None:
    with _output:
        _replies.write(json.dumps(message) + "\n")
        _replies.flush()


class _Operations:
    """What all clients do alike."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._members: dict[str, _Member] = {}
        self._streams: dict[str, _Stream] = {}

    def produce(self, records: list[dict[str, Any]], **settings: Any) -> list[int]:
        return self._client.produce([sent_from_json(fields) for fields in records], settings)

    def read(self, topic: str, partition: int, offset: int, count: int, **settings: Any) -> list[dict[str, Any]]:
        consumer = self._client.consumer(None, settings)
        consumer.assign(topic, partition, offset)
        found: list[Received] = []
        while len(found) < count:
            found += (record for record in consumer.poll(1) if record.offset >= offset)
        consumer.close()
        return [to_json(record) for record in found]

    def join(self, member: str, group: str, topics: list[str], **settings: Any) -> None:
        self._members[member] = _Member(member, self._client.consumer(group, settings), topics, settings)

    def commit(self, member: str) -> None:
        self._members[member].do(lambda consumer: self._members[member].commit())

    def pause(self, member: str, **where: Any) -> None:
        self._members[member].do(lambda consumer: consumer.pause(**where))

    def resume(self, member: str, **where: Any) -> None:
        self._members[member].do(lambda consumer: consumer.resume(**where))

    def seek(self, member: str, **where: Any) -> None:
        self._members[member].do(lambda consumer: consumer.seek(**where))

    def leave(self, member: str) -> None:
        self._members.pop(member).leave()

    def stream(self, stream: str, topic: str, partitions: int, **settings: Any) -> None:
        producer = self._client.streaming_producer(settings)
        self._streams[stream] = _Stream(stream, producer, topic, partitions)

    def stop(self, stream: str) -> int:
        return self._streams.pop(stream).stop()


class _Member:
    """A thread that polls; what it is to do beside that waits in a queue for it."""

    def __init__(self, name: str, consumer: Consumer, topics: list[str], settings: dict[str, Any]) -> None:
        self._name, self._consumer, self._topics = name, consumer, topics
        self._commits_each = bool(settings.get("commit_each"))
        self._errands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._is_leaving = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def do(self, errand: Callable[[Consumer], object]) -> None:
        """Between two polls, and wait for it."""
        outcome: SimpleQueue[Exception | None] = SimpleQueue()

        def run() -> None:
            try:
                errand(self._consumer)
                outcome.put(None)
            except Exception as error:  # noqa: BLE001  # it is raised where it was asked for
                outcome.put(error)

        self._errands.put(run)
        if error := outcome.get(timeout=60):
            raise error

    def commit(self) -> None:
        offsets = self._consumer.commit()
        if offsets:
            say({"event": "committed", "member": self._name, "offsets": offsets})

    def leave(self) -> None:
        self._is_leaving = True
        self._thread.join(60)

    def _run(self) -> None:
        try:
            self._poll()
        except Exception as error:
            say({"event": "broken", "member": self._name, "error": repr(error)})
            raise

    def _poll(self) -> None:
        self._consumer.subscribe(self._topics)
        assigned: list[tuple[str, int]] = []
        while not self._is_leaving:
            records = self._consumer.poll(POLL_S)
            now = sorted(self._consumer.assignment())
            if now != assigned:
                assigned = now
                say({"event": "assigned", "member": self._name, "partitions": now})
            if records:
                say({"event": "records", "member": self._name, "records": [to_json(record) for record in records]})
                if self._commits_each:
                    self._try_to_commit()
            try:
                self._errands.get_nowait()()
            except Empty:
                pass
        self._consumer.close()

    def _try_to_commit(self) -> None:
        try:
            self.commit()
        except Exception:  # noqa: BLE001  # a rebalance, or a broker that is away: the next commit covers it
            traceback.print_exc()


class _Stream:
    """Sends without waiting, up to so many records under way."""

    UNDER_WAY_MAX = 100

    def __init__(self, name: str, producer: StreamingProducer, topic: str, partition_count: int) -> None:
        self._name, self._producer, self._topic, self._partition_count = name, producer, topic, partition_count
        self._answered = self._sent = 0
        self._lock = threading.Lock()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._is_stopping = True
        self._thread.join(120)
        return self._sent

    def _run(self) -> None:
        while not self._is_stopping:
            self._producer.work()
            if self._sent - self._answered < self.UNDER_WAY_MAX:
                number = self._sent
                self._sent += 1
                self._send(number, number % self._partition_count)
        self._producer.close()

    def _send(self, number: int, partition: int) -> None:
        def done(offset: int, error: str | None) -> None:
            with self._lock:
                self._answered += 1
            if error is None:
                say(
                    {"event": "acked", "stream": self._name, "number": number, "partition": partition, "offset": offset}
                )
            else:
                say({"event": "failed", "stream": self._name, "error": f"{number}: {error}"})

        self._producer.send(self._topic, partition, b"%s.%d" % (self._name.encode(), number), done)
