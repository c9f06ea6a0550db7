"""A Kafka broker for tests of code that uses Kafka: real sockets and real bytes, up in a moment, gone afterwards.

::

    with logstore.testing.broker(topics={"orders": 3}) as broker:
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap})
        ...
        assert [record.value for record in broker.records("orders")] == [b"one", b"two"]

It runs in this process, or with ``subprocess=True`` in one of its own, which can be killed. Its data is in a temporary
directory unless it is given one. It keeps its port when it is started again, so that clients find it. The fixtures
``logstore_broker`` and ``logstore_session_broker`` of pytest are made of this (see ``pytest_plugin``).
"""

import atexit
import json
import os
import socket
import struct
import subprocess as processes
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from logstore.addresses import Address, parse_address
from logstore.broker.server_properties import parse_server_settings
from logstore.client.consumer import ConsumerRecord
from logstore.errors import Closed, ClusterFailure, TimedOut, Unsupported
from logstore.settings import as_text

if TYPE_CHECKING:
    from io import BufferedReader

    from logstore.broker.running import RunningBroker
    from logstore.wire.schema import Message

# What makes a broker of tests quick: a group is there at once, members may be short-lived, nobody pulls the plug.
_DEFAULTS: Mapping[str, object] = {
    "acks.all.durability": "os",
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 100,
    "offsets.topic.num.partitions": 1,
}
_CREATE_TOPICS_VERSION = 5
_TIMEOUT_S = 30.0
_LAST_WORDS_S = 0.5  # from the end of its connections to that of its process


def broker(
    path: str | Path | None = None,
    *,
    topics: Mapping[str, int] | Iterable[str] = (),
    subprocess: bool = False,
    port: int = 0,
    **settings: object,
) -> "Broker":
    """A broker that starts with the ``with`` block and stops with it, or by ``start`` and ``stop``.

    ``path`` is its data directory, kept; without one a temporary one is used. ``topics`` are made once it runs: names,
    or names with their partition counts. ``port`` 0 is one that is free. ``settings`` are those of ``logstore serve``,
    as in ``auto_create_topics_enable=False``. Raises InvalidSetting.
    """
    return Broker(path, topics, subprocess, port, settings)


class Broker:
    """See ``broker``. Not safe to use from many threads; its clients may be in as many as they like."""

    def __init__(
        self,
        path: str | Path | None,
        topics: Mapping[str, int] | Iterable[str],
        subprocess: bool,
        port: int,
        settings: Mapping[str, object],
    ) -> None:
        given = {name.replace("_", "."): value for name, value in settings.items()}
        self._settings = {name: value for name, value in {**_DEFAULTS, **given}.items() if value is not None}
        parse_server_settings(self._settings)  # raises where the mistake is made
        self._topics = dict(topics) if isinstance(topics, Mapping) else dict.fromkeys(topics, 1)
        self._path = None if path is None else Path(path)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._address = Address("127.0.0.1", port)
        self._runner: _Runner = _Process() if subprocess else _Thread()

    @property
    def path(self) -> Path:
        """The data directory: ``logstore.open(broker.path, read_only=True)`` looks into it beside the broker. Raises
        Closed for a temporary one before the first start, and after the last."""
        if self._path is None:
            raise Closed("the broker's temporary directory")
        return self._path

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients' bootstrap.servers; the same one after ``restart``. Raises Closed before the first
        start."""
        if not self._address.port:
            raise Closed("the broker, which was not started")
        return str(self._address)

    @property
    def host(self) -> str:
        return self._address.host

    @property
    def port(self) -> int:
        """0 before the first start, unless one was given."""
        return self._address.port

    def start(self) -> Self:
        """Raises CannotListen, TimedOut, ClusterFailure, and as ``logstore.open``."""
        if self._path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="logstore-")
            self._path = Path(self._temporary.name, "data")
        self._address = self._runner.start(self.path, self._address, self._settings)
        topics, self._topics = self._topics, {}
        for name, partitions in topics.items():
            self.create_topic(name, partitions)
        return self

    def stop(self) -> None:
        """Stop in good order. Its data stays until ``close``; stopping twice is no error."""
        self._runner.stop()

    def restart(self) -> Self:
        """Stop and start, with the same port and data."""
        self.stop()
        return self.start()

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would. Raises Unsupported for one in this process."""
        self._runner.kill()

    def close(self) -> None:
        """Stop, and remove the temporary directory."""
        try:
            self.stop()
        finally:
            if self._temporary is not None:
                self._temporary.cleanup()
                self._temporary = self._path = None

    def create_topic(self, name: str, partitions: int = 1, **settings: object) -> None:
        """Make a topic; ``settings`` as in ``cleanup_policy="compact"``. Raises ClusterFailure with Kafka's error."""
        from logstore.wire.error_codes import ErrorCode
        from logstore.wire.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest

        configs = [
            CreatableTopicConfig(name=setting.replace("_", "."), value=_text(value))
            for setting, value in settings.items()
        ]
        new = CreatableTopic(name=name, num_partitions=partitions, replication_factor=-1, configs=configs)
        response = self._ask(CreateTopicsRequest(topics=[new]), _CREATE_TOPICS_VERSION)
        (created,) = response.topics
        if created.error_code:
            code = ErrorCode(created.error_code).name
            raise ClusterFailure(f"create topic {name!r}", code, created.error_message or "no reason was given")

    def records(self, topic: str, partition: int | None = None) -> list[ConsumerRecord]:
        """What is in a topic, or in one partition of it: read from its files, so the broker may be stopped. Raises
        UnknownTopic, UnknownPartition."""
        from logstore.client.embedded.store import open as open_store

        with open_store(self.path, read_only=True) as store:
            numbers = range(store.topic(topic).partitions) if partition is None else [partition]
            return [
                ConsumerRecord(topic, number, *record)
                for number in numbers
                for log in [store.log(topic, number)]
                for record in log.records(log.log_start_offset)
            ]

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: "Message", version: int) -> Any:
        """One request on a connection of its own."""
        from logstore.wire.api import APIS
        from logstore.wire.header import RequestHeader, decode_response_header

        frame = RequestHeader(request.api_key, version, 0, "logstore.testing").encode() + request.encode(version)
        try:
            with socket.create_connection(self._address, _TIMEOUT_S) as peer, peer.makefile("rb") as answers:
                peer.sendall(struct.pack(">i", len(frame)) + frame)
                (size,) = struct.unpack(">i", _read(answers, 4))
                answer = _read(answers, size)
        except OSError as error:
            reason = self._runner.last_words() or error.strerror or str(error)
            raise ClusterFailure(f"ask the broker at {self._address}", type(error).__name__, reason) from None
        _, position = decode_response_header(answer, request.api_key, version)
        return APIS[request.api_key].response.decode(answer, version, position)


def _read(answers: "BufferedReader", size: int) -> bytes:
    data = answers.read(size)
    if len(data) < size:
        raise ConnectionResetError("it has closed the connection")
    return data


def _text(value: Any) -> str | None:
    return None if value is None else as_text(tuple(value) if isinstance(value, list) else value)


# ------------------------------------------------------------------------------------------------------ where it runs


class _Runner(Protocol):
    """Starts a broker, and stops or kills it."""

    def start(self, path: Path, address: Address, settings: Mapping[str, object]) -> Address: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def last_words(self) -> str:
        """What it has logged before it ended by itself; nothing while it runs."""


class _Thread:
    """In this process."""

    def __init__(self) -> None:
        self._running: RunningBroker | None = None

    def start(self, path: Path, address: Address, settings: Mapping[str, object]) -> Address:
        from logstore.broker.running import RunningBroker

        if self._running is None:
            parsed = parse_server_settings({**settings, "listeners": f"PLAINTEXT://{address}"})
            running = RunningBroker(path, parsed.broker, parsed.store)
            running.start()
            self._running = running
        return self._running.address

    def stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def kill(self) -> None:
        raise Unsupported("killing a broker that runs in this process", "make it with subprocess=True")

    def last_words(self) -> str:
        return ""  # it is in this process's own log


class _Process:
    """In a process of its own, which ends with this one, however that ends. ``_log`` is what it writes to stderr, in a
    file that is gone with it."""

    def __init__(self) -> None:
        self._process: processes.Popen[str] | None = None
        self._log: IO[str] | None = None
        self._address = Address("", 0)

    def start(self, path: Path, address: Address, settings: Mapping[str, object]) -> Address:
        if self._process is None or self._process.poll() is not None:
            self.stop()
            changes = [f"--set={name}={_text(value)}" for name, value in settings.items()]
            self._address = self._launch(["--data", str(path), "--listen", str(address), "--json", *changes])
        return self._address

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            self._end(process)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            self._end(process)

    def last_words(self) -> str:
        if self._process is None:
            return ""
        try:
            self._process.wait(_LAST_WORDS_S)
        except processes.TimeoutExpired:
            return ""
        return self._logged()

    def _logged(self) -> str:
        assert self._log is not None
        self._log.seek(0)
        return self._log.read().strip()

    def _launch(self, arguments: list[str]) -> Address:
        package_root = str(Path(__file__).parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package_root, os.environ.get("PYTHONPATH", "")])}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by _end
        process = processes.Popen(
            [sys.executable, "-m", "logstore", "serve", "--stop-with-stdin", *arguments],
            stdin=processes.PIPE,
            stdout=processes.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
        )
        self._process = process
        atexit.register(process.kill)
        impatience = threading.Timer(_TIMEOUT_S, process.kill)
        impatience.start()
        assert process.stdout is not None
        ready = process.stdout.readline()
        impatience.cancel()
        if ready:
            return parse_address(json.loads(ready)["address"])
        process.wait(_TIMEOUT_S)
        told = self._logged()
        self.stop()
        if not told:
            raise TimedOut("start a broker", _TIMEOUT_S)
        raise ClusterFailure("start a broker", f"exit status {process.returncode}", told)

    def _end(self, process: "processes.Popen[str]") -> None:
        try:
            process.wait(_TIMEOUT_S)
        except processes.TimeoutExpired:
            process.kill()
            process.wait()
        for file in (process.stdin, process.stdout, self._log):
            if file is not None:
                file.close()
        self._log = None
        atexit.unregister(process.kill)
