"""One node of Apache Kafka on the loopback interface: a real broker to write golden files with or to test against."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.backoff.ms=200
log.cleaner.dedupe.buffer.size=2097152
log.index.size.max.bytes=4096
log.retention.ms=-1
log.retention.check.interval.ms=500
log.initial.task.delay.ms=500
"""


class Broker:
    """One Kafka node that this process started, and ends by its own process id."""

    def __init__(
        self,
        jars: Path,
        directory: Path,
        *,
        java_options: Sequence[str] = ("-Xmx512m", "-XX:TieredStopAtLevel=1"),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """``java_options``: without others it starts fast, and runs slower than it could; ``settings``: of the server,
        beside or instead of those above."""
        self.data = directory / "data"
        self._directory = directory
        self._log = directory / "server.out"
        self._properties = directory / "server.properties"
        self._java = ["java", *java_options, "-cp", f"{jars.resolve()}/*"]
        self._process: subprocess.Popen[bytes]
        self.port, controller_port = free_ports(2)
        changed = "".join(
            f"{name}={value}\n" for name, value in (settings or {}).items()
        )  # of two lines the last counts
        self._properties.write_text(
            SERVER_PROPERTIES.format(port=self.port, controller_port=controller_port, data=self.data) + changed
        )
        self.run("kafka.tools.StorageTool", "format", "-t", "bG9nc3RvcmUtZ29sZGVuMQ", "-c", str(self._properties))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, *arguments: str) -> str:
        done = subprocess.run([*self._java, *arguments], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{arguments} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done.stdout

    @contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        """Again too, on the same port and directory."""
        with self._log.open("w") as log:
            self._process = process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self._properties)], stdout=log, stderr=log, cwd=self._directory
            )
        try:
            wait_for("Kafka", lambda: "Kafka Server started" in self._log.read_text() or process.poll() is not None, 60)
            if process.poll() is not None:
                raise SystemExit(f"Kafka did not start:\n{self._log.read_text()[-3000:]}")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        if "shut down completed" not in self._log.read_text():
            raise SystemExit(f"Kafka did not shut down cleanly:\n{self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL, at once."""
        self._process.kill()
        self._process.wait(30)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def wait_for(what: str, is_true: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {timeout_s} s in vain for {what}")
        time.sleep(0.1)
