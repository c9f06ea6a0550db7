"""kcat, run once for each thing that it does. Keys and values may be any bytes, header values are text, and times are
those of sending."""

import re
import shutil
import subprocess

import pytest

from kafka_clients.records import Headers, Received

# Sizes first, so that any bytes may follow. %K and %S are -1 for null.
_FORMAT = "%t %p %o %T %K %S [%h]\n%k%s\n"
_LINE = re.compile(rb"(\S+) (\d+) (\d+) (-?\d+) (-?\d+) (-?\d+) \[(.*?)\]\n")
_VALUE_END, _KEY_END = "\x1e", "\x1f"


class Kcat:
    name = "kcat"

    def __init__(self, address: str) -> None:
        if shutil.which("kcat") is None:
            pytest.skip("no kcat (Debian: apt-get install kcat)")
        self.address = address

    def produce(
        self,
        topic: str,
        partition: int,
        pairs: list[tuple[bytes | None, bytes | None]],
        *,
        codec: str = "none",
        headers: Headers = (),
        settings: tuple[str, ...] = (),
    ) -> None:
        """(key, value) of each; an empty one is sent as null (it cannot do both)."""
        end, key_end = _VALUE_END.encode(), _KEY_END.encode()
        lines = b"".join((key or b"") + key_end + (value or b"") + end for key, value in pairs)
        options = ["-D", _VALUE_END, "-K", _KEY_END, "-Z", "-z", codec]
        for name, value in headers:
            options += ["-H", name if value is None else f"{name}={value.decode()}"]
        self._run("-P", "-t", topic, "-p", str(partition), *options, *_settings(settings), stdin=lines)

    def read(self, topic: str, partition: int, offset: int, count: int, *settings: str) -> list[Received]:
        options = ["-t", topic, "-p", str(partition), "-o", str(offset), "-c", str(count), "-f", _FORMAT]
        return _parse(self._run("-C", *options, *_settings(settings)))

    def read_group(self, group: str, topics: list[str], count: int, *settings: str) -> list[Received]:
        """As a member of a group, from its start, up to so many records."""
        own = ("auto.offset.reset=earliest", "session.timeout.ms=6000", *settings)
        return _parse(self._run("-G", group, *topics, "-c", str(count), "-f", _FORMAT, *_settings(own)))

    def topics(self) -> dict[str, int]:
        listed = self._run("-L").decode()
        return {name: int(count) for name, count in re.findall(r'topic "(.*?)" with (\d+) partitions', listed)}

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        answer = self._run("-Q", "-t", f"{topic}:{partition}:{timestamp_ms}").decode()
        return int(answer.rsplit(maxsplit=1)[1])

    def _run(self, *options: str, stdin: bytes = b"") -> bytes:
        command = ["kcat", "-b", self.address, "-q", *options, "-X", "client.id=kcat", "-X", "reconnect.backoff.ms=20"]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=40, check=False)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stderr.decode()}"
        return done.stdout


def _settings(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in settings for word in ("-X", setting)]


def _parse(printed: bytes) -> list[Received]:
    records = []
    position = 0
    while position < len(printed):
        match = _LINE.match(printed, position)
        assert match is not None, printed[position : position + 100]
        topic, partition, offset, time_ms, key_size, value_size, headers = match.groups()
        start = match.end()
        key, start = _take(printed, start, int(key_size))
        value, start = _take(printed, start, int(value_size))
        pairs = tuple(_header(pair) for pair in headers.split(b",")) if headers else ()
        records.append(Received(topic.decode(), int(partition), int(offset), value, key, pairs, int(time_ms)))
        position = start + 1
    return records


def _take(printed: bytes, start: int, size: int) -> tuple[bytes | None, int]:
    return (None, start) if size < 0 else (printed[start : start + size], start + size)


def _header(pair: bytes) -> tuple[str, bytes | None]:
    name, _, value = pair.partition(b"=")
    return name.decode(), None if value == b"NULL" else value
