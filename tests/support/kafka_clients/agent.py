"""The tests' side of an agent: a process with a real client in it, told what to do in lines of JSON.

A call is ``{"id": 7, "op": "produce", ...}`` and is answered by ``{"id": 7, "ok": ...}`` or by one with
"error". What members of groups and streams see comes by itself, as ``{"event": "records", "member": "m1", ...}``. The
agent ends when its standard input does, so none outlives its test.
"""

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka_clients.records import Received, Sent, received_from_json, to_json

PATIENCE_S = 40.0
_changed = threading.Condition()  # notified with every line of every agent
_broken: list[str] = []  # members that raised instead of polling on


class AgentFailed(Exception):
    """The client raised, or its process ended."""


def wait_until(is_so: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Looked at again whenever an agent says something."""
    with _changed:
        is_in_time = _changed.wait_for(lambda: is_so() or bool(_broken), timeout_s)
        if _broken:
            raise AgentFailed(_broken.pop())
        assert is_in_time, f"waited {timeout_s} s in vain: {what}"


class Agent:
    """``address`` is "host:port" of the broker that all of its clients talk to."""

    def __init__(self, name: str, command: Sequence[str], address: str, environment: Mapping[str, str]) -> None:
        self.name, self.address = name, address
        self.members: dict[str, Member] = {}
        self.streams: dict[str, Stream] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._calls = 0
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # as long as this
        self._process = subprocess.Popen(
            [*command, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **environment},
        )
        self._listener = threading.Thread(target=self._listen, name=f"listens to {name}", daemon=True)
        self._listener.start()

    # ------------------------------------------------------------------------------------------------- what it can do

    def produce(self, records: Sequence[Sent], **settings: Any) -> list[int]:
        """The offset of each. Settings: codec ("none"), acks ("all"), idempotent (False), and max_bytes, the largest
        request that the client is allowed (1 MiB or so)."""
        assert {record.partition for record in records}, "nothing to send"
        return self.call("produce", records=[to_json(record) for record in records], **settings)

    def read(self, topic: str, partition: int, offset: int, count: int, **settings: Any) -> list[Received]:
        """``count`` records from ``offset`` on, in a group of nobody. Settings: max_bytes, as above."""
        found = self.call("read", topic=topic, partition=partition, offset=offset, count=count, **settings)
        return [received_from_json(fields) for fields in found]

    def join(self, member: str, group: str, topics: Sequence[str], **settings: Any) -> "Member":
        """A consumer of a group, which polls from now on. Settings: assignor (the client's default), auto_commit
        (False), reset ("earliest"), session_timeout_ms, instance_id, commit_each (commit after each poll: False);
        java and confluent: group_protocol."""
        joined = self.members[member] = Member(self, member)
        self.call("join", member=member, group=group, topics=list(topics), **settings)
        return joined

    def stream(self, name: str, topic: str, partition_count: int, **settings: Any) -> "Stream":
        """Sends the values name.0, name.1, ... to the partitions by turns, with acks=all, until it is stopped.
        Settings: idempotent (True), codec."""
        stream = self.streams[name] = Stream(self, name, topic, partition_count)
        self.call("stream", stream=name, topic=topic, partitions=partition_count, **settings)
        return stream

    def call(self, op: str, *, timeout_s: float = PATIENCE_S, **arguments: Any) -> Any:
        with _changed:
            self._calls += 1
            number = self._calls
            line = json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n"
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(line)
                self._process.stdin.flush()
            except BrokenPipeError:
                raise AgentFailed(self._last_words()) from None
        wait_until(lambda: number in self._answers or not self._listener.is_alive(), f"{self.name} {op}", timeout_s)
        if number not in self._answers:
            raise AgentFailed(self._last_words())
        answer = self._answers.pop(number)
        if "error" in answer:
            raise AgentFailed(f"{self.name} {op}: {answer['error']}")
        return answer["ok"]

    # ------------------------------------------------------------------------------------------------------ its end

    def crash(self) -> None:
        """SIGKILL: none of its clients says good-bye."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Let go; what it still has open it closes or not, as it pleases."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._listener.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._stderr.close()

    # -------------------------------------------------------------------------------------------------- what it says

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            with _changed:
                if "event" in message:
                    self._take_event(message)
                else:
                    self._answers[message["id"]] = message
                _changed.notify_all()
        threading.Timer(0.01, self._announce_end).start()

    def _announce_end(self) -> None:
        with _changed:
            _changed.notify_all()

    def _take_event(self, message: dict[str, Any]) -> None:
        match message["event"]:
            case "assigned":
                self.members[message["member"]].take_assignment(message["partitions"])
            case "records":
                self.members[message["member"]].take_records(message["records"])
            case "committed":
                self.members[message["member"]].take_commit(message["offsets"])
            case "broken":
                _broken.append(f"{self.name} {message['member']}: {message['error']}")
            case "acked":
                self.streams[message["stream"]].acked[message["number"]] = message["partition"], message["offset"]
            case "failed":
                self.streams[message["stream"]].failures.append(message["error"])

    def _last_words(self) -> str:
        self._stderr.seek(0)
        said = self._stderr.read().decode("utf-8", "replace")
        return f"{self.name} ended with {self._process.poll()}:\n{said[-3000:]}"


Partition = tuple[str, int]


@dataclass
class Member:
    """A consumer of a group, and what it has told of itself, the newest last. ``generations``: of each record, how many
    assignments there had been by then."""

    agent: Agent
    name: str
    assignment: frozenset[Partition] = frozenset()
    assignments: list[frozenset[Partition]] = field(default_factory=list)
    records: list[Received] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    commits: list[dict[Partition, int]] = field(default_factory=list)

    def take_assignment(self, partitions: list[list[Any]]) -> None:
        self.assignment = frozenset((topic, number) for topic, number in partitions)
        self.assignments.append(self.assignment)

    def take_records(self, records: list[dict[str, Any]]) -> None:
        self.records += map(received_from_json, records)
        self.generations += [len(self.assignments)] * len(records)

    def take_commit(self, offsets: list[list[Any]]) -> None:
        self.commits.append({(topic, number): offset for topic, number, offset in offsets})

    def commit(self) -> None:
        """All that was polled so far, and wait for it."""
        self.agent.call("commit", member=self.name)

    def pause(self, topic: str, partition: int) -> None:
        self.agent.call("pause", member=self.name, topic=topic, partition=partition)

    def resume(self, topic: str, partition: int) -> None:
        self.agent.call("resume", member=self.name, topic=topic, partition=partition)

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self.agent.call("seek", member=self.name, topic=topic, partition=partition, offset=offset)

    def leave(self) -> None:
        self.agent.call("leave", member=self.name)
        self.assignment = frozenset()


@dataclass
class Stream:
    """``acked``: (partition, offset) by a record's number; ``failures``: what was given up."""

    agent: Agent
    name: str
    topic: str
    partition_count: int
    acked: dict[int, tuple[int, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def value(self, number: int) -> bytes:
        return b"%s.%d" % (self.name.encode(), number)

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for what is under way; how many records it has sent in all."""
        count: int = self.agent.call("stop", stream=self.name, timeout_s=timeout_s)
        return count


def wait_for_shares(
    members: Sequence[Member], partitions: set[Partition], what: str = ""
) -> list[frozenset[Partition]]:
    """Until each of ``partitions`` has exactly one owner among ``members``; what each has then."""

    def is_shared_out() -> bool:
        owned = [partition for member in members for partition in member.assignment]
        return len(owned) == len(partitions) and set(owned) == partitions

    began_s = time.monotonic()
    try:
        wait_until(is_shared_out, what or "partitions shared out")
    except AssertionError:
        shares = {member.name: sorted(member.assignment) for member in members}
        raise AssertionError(f"not shared out in {time.monotonic() - began_s:.0f} s: {shares}") from None
    return [member.assignment for member in members]
