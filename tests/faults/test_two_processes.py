"""Two processes on one data directory: a reader beside the owner, and a second owner that is refused."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import logstore
from children import environment, run_python
from clients import Crew, batch_of
from history import History, explain
from logstore.errors import DataDirLocked, StorageFailure, UnknownTopic
from logstore.format import filename
from logstore.storage.findings import Severity, Tally
from logstore.storage.partition import PartitionLog
from logstore.storage.survey import survey
from logstore.storage.verify import verify

KEY_COUNT = 30

# Writes until its input ends, and says what was acknowledged: log, client, number of the batch, base offset.
WRITER = """
import sys, threading
import logstore
from clients import Crew
from history import History

path, preallocate = sys.argv[1:]
store = logstore.open(path, log_retention_check_interval_ms=30, log_flush_scheduler_interval_ms=20,
                      log_flush_offset_checkpoint_interval_ms=60, log_cleaner_backoff_ms=30)
settings = dict(segment_bytes=8_000, index_interval_bytes=200, file_delete_delay_ms=1500,
                preallocate=preallocate == "True")
store.create_topic("plain", retention_ms=-1, **settings)
store.create_topic("kept_little", retention_bytes=30_000, **settings)
store.create_topic("keyed", cleanup_policy="compact", min_cleanable_dirty_ratio=0.01, **settings)
crew = Crew(History())
lock = threading.Lock()

def note(name, client):
    def tell(number, base_offset):
        with lock:
            print(name, client, number, base_offset, flush=True)
    return tell

print("ready", flush=True)
for topic in ("plain", "kept_little", "keyed"):
    for turn in range(2):
        log, client = store.log(topic), f"{topic}-{turn}"
        crew.start(client, crew.write, log, client, note=note(log.name, client),
                   key_count=KEY_COUNT * (topic == "keyed"))
sys.stdin.readline()
crew.finish(crew.threads)
print("quiet", flush=True)
sys.stdin.readline()
store.delete_topic("kept_little")
store.close()
""".replace("KEY_COUNT", str(KEY_COUNT))


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment(), **pipes) as running:  # type: ignore[call-overload]
        try:
            yield running
        finally:
            running.kill()


def expect(running: subprocess.Popen[str], word: str) -> None:
    """See that a process prints this next; where it does not, what it prints as its error is ours."""
    assert running.stdout is not None and running.stderr is not None
    line = running.stdout.readline()
    if line != word + "\n":
        running.kill()
        raise AssertionError(line + running.stderr.read())


def go_on(running: subprocess.Popen[str]) -> None:
    assert running.stdin is not None
    running.stdin.write("\n")
    running.stdin.flush()


def take_note(writer: subprocess.Popen[str], history: History, is_quiet: threading.Event) -> None:
    """Put into the history what the other process says, before it does the next thing."""
    assert writer.stdout is not None
    for line in writer.stdout:
        if line == "quiet\n":
            break
        name, client, number, base_offset = line.split()
        append = history.begin(name, client, int(number), *batch_of(client, int(number), key_count_of(name)))
        history.acknowledge(append, int(base_offset))
    is_quiet.set()


def key_count_of(log: str) -> int:
    return KEY_COUNT if log.startswith("keyed") else 0


def add_unanswered(history: History) -> None:
    """The batch that each client was about to append, or had appended, when it was stopped."""
    last = {(append.log, append.client): append.number for append in history.appends}
    for (name, client), number in last.items():
        history.begin(name, client, number + 1, *batch_of(client, number + 1, key_count_of(name)))


@pytest.mark.parametrize("preallocate", [False, True])
def test_read_only_openers_work_beside_a_live_writer_with_rolls_retention_and_compaction(
    preallocate: bool, memory_dir: Path
) -> None:
    beside_a_writer(memory_dir, preallocate, 2.0)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_read_only_openers_work_beside_a_live_writer_for_long(memory_dir: Path) -> None:
    beside_a_writer(memory_dir, False, 12)


def beside_a_writer(path: Path, preallocate: bool, seconds: float) -> None:
    crew = Crew(History())
    with process(WRITER, path, preallocate) as writer:
        expect(writer, "ready")
        noting = crew.start("notes", take_note, writer, crew.history, crew.is_quiet)
        with logstore.open(path, read_only=True) as store:
            logs = [store.log(name) for name in ("plain", "kept_little", "keyed")]
            for log in logs:
                crew.start(f"tail of {log.name}", crew.tail, log, "tail")
                crew.start(f"jumps in {log.name}", crew.jump, log, "jumps", 1)
            crew.is_quiet.wait(seconds)
            go_on(writer)
            crew.join([noting, *crew.threads])
            assert not crew.ended, crew.ended
            for log in logs:
                crew.poll_records(log, "the end", log.log_start_offset)
            add_unanswered(crew.history)
            assert (found := crew.history.anomalies(["keyed_0"])) == [], explain(found)
            assert logs[1].log_start_offset > 0
            assert sum(1 for _ in logs[2].records(0)) < logs[2].log_end_offset - 100, "something was compacted"
            assert min(sum(poll.log == log.name for poll in crew.history.polls) for log in logs) > 10
            go_on(writer)
            assert writer.wait(30) == 0
            with pytest.raises(UnknownTopic):
                store.log("kept_little")
            with pytest.raises(StorageFailure, match="No such file"):
                list(logs[1].records(logs[1].log_start_offset))


# ----------------------------------------------------------------------------------------------------------- two owners

OWNER = """
import sys
import logstore
store = logstore.open(sys.argv[1])
if not store.topics():
    store.create_topic("t")
n = store.log("t").log_end_offset
while True:
    store.log("t").append([b"%d" % n])
    n += 1
    if n == 200:
        print("open", flush=True)
"""


OPEN_AND_CLOSE = "import logstore, sys; logstore.open(sys.argv[1]).close()"


def test_of_two_processes_on_one_data_directory_the_second_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    with logstore.open(tmp_path):
        second = run_python(OPEN_AND_CLOSE, tmp_path, status=1)
        assert f"DataDirLocked: {tmp_path} is open in another process (process {os.getpid()})" in second.stderr
    assert run_python(OPEN_AND_CLOSE, tmp_path).stderr == ""


def test_of_two_threads_that_open_one_data_directory_at_once_one_has_it(tmp_path: Path) -> None:
    opened: list[logstore.Store] = []
    refused: list[str] = []
    start = threading.Barrier(6)

    def try_to_open() -> None:
        start.wait(10)
        try:
            opened.append(logstore.open(tmp_path))
        except DataDirLocked as error:
            refused.append(str(error))

    threads = [threading.Thread(target=try_to_open) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(opened), len(refused)) == (1, 5)
    opened[0].create_topic("still_works")
    with pytest.raises(DataDirLocked, match=rf"process {os.getpid()}\b"):
        logstore.open(tmp_path)
    opened[0].close()
    logstore.open(tmp_path).close()


def test_after_a_sigkill_of_the_owner_the_next_opener_gets_in_at_once(tmp_path: Path) -> None:
    for turn in range(3):
        with process(OWNER, tmp_path) as owner:
            if turn == 0:
                expect(owner, "open")
            else:
                wait_for_the_lock(tmp_path)
            with pytest.raises(DataDirLocked, match=rf"process {owner.pid}\b"):
                logstore.open(tmp_path)
            owner.kill()
            owner.wait(10)
            with logstore.open(tmp_path) as store:
                found = [record.value for record in store.log("t").records(0)]
        assert found == [b"%d" % n for n in range(len(found))]
        assert len(found) >= 200


def wait_for_the_lock(path: Path) -> None:
    """Until another process has it, and has told so."""
    before = (path / filename.LOCK).read_bytes()
    deadline = time.monotonic() + 20
    while (path / filename.LOCK).read_bytes() in (before, b"") and time.monotonic() < deadline:
        time.sleep(0.01)


def test_verify_says_nothing_of_segments_that_a_live_writer_takes_away_meanwhile(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t", segment_bytes=300, retention_ms=-1, file_delete_delay_ms=0)
        log = store.log("t")
        for number in range(20):
            log.append([b"%d" % number * 100])
        looks = verify(survey(tmp_path), Tally(), lambda size: retire(log))

        def retire(log: PartitionLog) -> None:
            log.config = log.config.replace({"retention.bytes": 0})
            log.delete_expired()
            log.unlink_retired(at_once=True)

        assert [found for found in looks if found.severity is Severity.DAMAGE] == []
        assert log.log_start_offset > 10
