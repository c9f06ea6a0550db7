"""What goes wrong around a queue, and what comes of it: each crash point, damage, a fork, a full disk, an interrupt."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import logstore
from children import run_python
from log_tools import batch_bounds
from logstore import DiskFull, Store
from logstore.client.queue.queue import Queue
from logstore.client.queue.read_only import ReadOnlyQueue
from logstore.format.batch import batches
from logstore.format.queue_state import Buried, Settled, decode_event
from promises import check_verified
from waits import SOON_S


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with logstore.open(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def jobs(store: Store) -> Queue:
    return store.queue("jobs", durability="os", max_deliveries=2)


def crashed(store: Store, number: int = 0) -> Path:
    """The directory as it would be found if the process ended now."""
    target = store.path.with_name(f"crashed-{number}")
    shutil.copytree(store.path, target)
    return target


def got(queue: Queue) -> list[tuple[bytes, int]]:
    try:
        return [(job.value, job.deliveries) for job in queue.get_many(1000, block=False)]
    except logstore.Empty:
        return []


def damage(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        octet = file.read(1)
        file.seek(position)
        file.write(bytes([octet[0] ^ 0xFF]))


# ------------------------------------------------------------------------------------------------------------- crashes


def test_what_workers_had_is_ready_at_once_with_its_count(store: Store, jobs: Queue) -> None:
    jobs.put_many([b"acked", b"held", b"given back", b"fresh"])
    jobs.get().ack()
    jobs.get()
    jobs.get().nack(delay=1000)
    with logstore.open(crashed(store)) as other:
        queue = other.queue("jobs")
        assert queue.stats().delayed == 1
        assert got(queue) == [(b"held", 2), (b"fresh", 1)]


def test_a_message_that_kills_its_process_is_a_dead_letter_in_the_end(tmp_path: Path) -> None:
    script = """
import logstore, os, signal, sys
queue = logstore.open(sys.argv[1]).queue("jobs", max_deliveries=2)
job = queue.get(timeout=10)
assert job.deliveries == int(sys.argv[2])
os.kill(os.getpid(), signal.SIGKILL)
"""
    with logstore.open(tmp_path / "data") as store:
        store.queue("jobs").put(b"poison")
    for deliveries in (1, 2):
        run_python(script, tmp_path / "data", deliveries, status=-signal.SIGKILL)
    with logstore.open(tmp_path / "data") as store:
        queue = store.queue("jobs")
        assert got(queue) == []
        assert [message.value for message in queue.dead_letters.peek(None)] == [b"poison"]


def fail_at(queue: Queue, is_it: Callable[[object], bool]) -> Callable[[], None]:
    """Have the noting of such an event fail; returns what ends that."""
    note = queue.engine.journal.note

    def fail(events: list[bytes]) -> None:
        if any(is_it(decode_event(event)) for event in events):
            raise DiskFull("somewhere", "write", 28, "no space")
        note(events)

    queue.engine.journal.note = fail  # type: ignore[method-assign]

    def end() -> None:
        queue.engine.journal.note = note  # type: ignore[method-assign]

    return end


def test_a_dead_letter_is_there_once_wherever_a_crash_or_a_full_disk_comes_between(store: Store, jobs: Queue) -> None:
    jobs.put(b"bad")
    jobs.get().nack()
    end = fail_at(jobs, lambda event: isinstance(event, Buried))
    with pytest.raises(DiskFull):
        jobs.get().nack()
    directory = crashed(store)
    end()
    assert got(jobs) == []
    for path in (None, directory):
        with logstore.open(path) if path else store as opened:
            queue = opened.queue("jobs")
            assert [message.value for message in queue.dead_letters.peek(None)] == [b"bad"]
            assert got(queue) == []
            queue.join(timeout=1)


def test_a_dead_letter_is_there_once_after_a_crash_behind_a_crash(store: Store, jobs: Queue) -> None:
    jobs.put_many([b"a", b"b"])
    jobs.configure(jobs.config.replace({"max.deliveries": 1}))
    fail_at(jobs, lambda event: isinstance(event, Buried))
    with pytest.raises(DiskFull):
        jobs.get().nack()  # a's letter is there, and no note of it
    with logstore.open(crashed(store)) as other:
        queue = other.queue("jobs")
        queue.get().nack()  # b's note says that the letters before it are settled
        directory = crashed(other, 1)
    with logstore.open(directory) as last:
        queue = last.queue("jobs")
        assert len(queue) == 0
        assert [message.value for message in queue.dead_letters.peek(None)] == [b"a", b"b"]


def test_an_expired_message_that_nobody_looked_at_is_a_dead_letter_once(store: Store, jobs: Queue) -> None:
    jobs.put_many([b"late", b"late too"], ttl=0)
    fail_at(jobs, lambda event: isinstance(event, Buried))
    with pytest.raises(DiskFull):
        jobs.get(block=False)
    with logstore.open(crashed(store)) as other:
        queue = other.queue("jobs")
        assert len(queue) == 0
        assert [message.value for message in queue.dead_letters.peek(None)] == [b"late", b"late too"]


def test_a_dead_letter_is_put_back_once_wherever_a_crash_comes_between(store: Store, jobs: Queue) -> None:
    jobs.put_many([b"a", b"b"], ttl=0)
    jobs.put(b"c")
    jobs.get().ack()
    dead = jobs.dead_letters
    end = fail_at(dead, lambda event: isinstance(event, Settled))
    with pytest.raises(DiskFull):
        dead.replay([0])
    directory = crashed(store)
    end()
    assert dead.replay() == 1  # the other one: the first is found to be back already
    assert got(jobs) == [(b"a", 1), (b"b", 1)]
    with logstore.open(directory) as other:
        queue = other.queue("jobs")
        assert [message.value for message in queue.dead_letters.peek(None)] == [b"b"]
        assert got(queue) == [(b"a", 1)]


def test_offsets_that_the_end_of_power_took_are_given_to_messages_that_are_new(store: Store, jobs: Queue) -> None:
    for number in range(6):
        jobs.put(b"%d" % number)
    jobs.ack_many(jobs.get_many(5))
    directory = crashed(store)
    log = directory / "jobs_0" / "00000000000000000000.log"
    position, _ = list(batch_bounds(log))[3]
    with log.open("r+b") as file:
        file.truncate(position)
    with logstore.open(directory) as other:
        queue = other.queue("jobs")
        assert queue.put(b"new").offset == 3
        notes = other.log("__queue.jobs")
        assert notes.synced_offset >= notes.log_end_offset - 1  # or the next end of power would bring the old ones back
        assert got(queue) == [(b"new", 1)]


# -------------------------------------------------------------------------------------------------------------- damage


def test_damaged_messages_are_skipped_reported_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with logstore.open(tmp_path) as store:
        queue = store.queue("jobs", durability="os")
        for number in range(5):
            queue.put(b"message %d" % number)
    log = tmp_path / "jobs_0" / "00000000000000000000.log"
    _, end = list(batch_bounds(log))[2]
    damage(log, end - 3)
    with logstore.open(tmp_path) as store:
        queue = store.queue("jobs")
        assert [value for value, _ in got(queue)] == [b"message 0", b"message 1", b"message 3", b"message 4"]
        assert queue.stats().lost == ((2, 2),)
        assert "messages 2 to 2 are lost" in caplog.text
    with logstore.open(tmp_path) as store:
        queue = store.queue("jobs")
        assert queue.stats().lost == ((2, 2),)
        queue.ack_many(queue.get_many(10, block=False))
        queue.join(timeout=1)
    assert log.exists()  # the damaged bytes are there to be salvaged
    with logstore.open(tmp_path) as store:
        assert store.queue("jobs").purge() == 0
        assert store.queue("jobs").stats().lost == ()


def test_a_message_that_is_damaged_while_it_waits_to_come_back_is_lost_alone(store: Store, jobs: Queue) -> None:
    for number in range(3):
        jobs.put(b"message %d" % number)
    for job in jobs.get_many(3):
        job.nack()
    directory = crashed(store)
    log = directory / "jobs_0" / "00000000000000000000.log"
    damage(log, list(batch_bounds(log))[1][1] - 3)
    with logstore.open(directory) as other:
        queue = other.queue("jobs")
        assert got(queue) == [(b"message 0", 2), (b"message 2", 2)]
        assert queue.stats().lost == ((1, 1),)


@pytest.mark.parametrize("number", range(9))
def test_lost_notes_cost_a_second_delivery_never_a_message(store: Store, jobs: Queue, number: int) -> None:
    for letter in (b"a", b"b", b"c", b"d"):
        jobs.put(letter)
    jobs.get().ack()
    second, third = jobs.get(), jobs.get()
    third.ack()
    second.nack()
    directory = crashed(store)
    log = directory / "__queue.jobs_0" / "00000000000000000000.log"
    size = store.log("__queue.jobs").view.size  # zeros follow
    bounds = [(batch.position, batch.position + batch.header.size) for batch in batches(log.read_bytes()[:size])]
    damage(log, bounds[min(number, len(bounds) - 1)][1] - 3)
    with logstore.open(directory) as other:
        queue = other.queue("jobs")
        found = dict(got(queue))
        assert {b"b", b"d"} <= set(found)
        queue.purge()
        assert queue.put(b"on").offset == 4
    with logstore.open(directory) as other:
        assert got(other.queue("jobs"))[0][0] == b"on"
        assert not other.queue("jobs").stats().damages


# --------------------------------------------------------------------------------------- disk, fork, interrupt, owner


def test_a_full_disk_refuses_and_loses_nothing(store: Store, jobs: Queue) -> None:
    jobs.put_many([b"a", b"b"])
    job = jobs.get()
    end = fail_at(jobs, lambda event: True)
    for call in (jobs.get, lambda: jobs.get_many(5), job.ack, job.nack, jobs.purge):
        with pytest.raises(DiskFull):
            call()
    end()
    assert (jobs.get().value, len(jobs)) == (b"b", 0)
    job.ack()
    assert jobs.stats().in_flight == 1


def test_a_full_disk_lets_go_of_what_is_settled_before_it_refuses(store: Store, jobs: Queue) -> None:
    failures = iter([DiskFull("somewhere", "write", 28, "no space")])
    append = jobs.engine.journal._append

    def fail_once(*arguments: object) -> object:
        if (failure := next(failures, None)) is not None:
            raise failure
        return append(*arguments)  # type: ignore[arg-type]

    jobs.engine.journal._append = fail_once  # type: ignore[assignment]
    jobs.put(b"a")
    assert jobs.get().value == b"a"


def test_a_child_of_the_owner_can_do_nothing_and_the_owner_goes_on(tmp_path: Path) -> None:
    script = """
import logstore, os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
store = logstore.open(sys.argv[1])
queue = store.queue("jobs")
queue.put_many([b"a", b"b"])
job = queue.get()
waiting = threading.Thread(target=lambda: store.queue("other").get(timeout=5), daemon=True)
queue.engine.lock.acquire()
child = os.fork()
if not child:
    for call in (lambda: queue.put(b"c"), queue.get, job.ack, queue.stats, lambda: len(queue), queue.purge):
        try:
            call()
        except logstore.ForkedProcess:
            continue
        os._exit(1)
    queue.close()
    os._exit(0)
queue.engine.lock.release()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
job.ack()
queue.get().ack()
store.close()
"""
    run_python(script, tmp_path / "data")


def test_an_interrupted_get_takes_nothing_and_passes_its_turn_on(jobs: Queue) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            jobs.get(timeout=SOON_S)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not jobs.engine.getters.waiting
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(jobs.get, timeout=SOON_S)
        jobs.put(b"a")
        assert waiting.result().value == b"a"


def test_a_queue_is_seen_beside_its_owner(store: Store, jobs: Queue) -> None:
    jobs.put_many([b"a", b"b", b"c"])
    jobs.get()
    with logstore.open(store.path, read_only=True) as other:
        seen = ReadOnlyQueue(other, "jobs")
        assert [message.value for message in seen.peek(None)] == [b"b", b"c"]
        assert (seen.stats().ready, seen.stats().in_flight) == (2, 1)
        jobs.put(b"d")
        assert seen.stats().ready == 3
        with pytest.raises(logstore.UnknownTopic):
            ReadOnlyQueue(other, "none")


def test_closing_while_workers_are_busy_loses_nothing(tmp_path: Path) -> None:
    found: list[bytes] = []
    for _ in range(3):
        with logstore.open(tmp_path) as store:
            queue = store.queue("jobs", durability="os")
            queue.put_many([b"%d" % number for number in range(300)])
            enough = threading.Event()

            def work(queue: Queue = queue, enough: threading.Event = enough) -> None:
                for job in queue:
                    try:
                        job.ack()
                    except logstore.Closed:
                        return
                    found.append(job.value)
                    if len(found) % 200 == 0:
                        enough.set()

            workers = [threading.Thread(target=work) for _ in range(4)]
            for worker in workers:
                worker.start()
            enough.wait(SOON_S)
            store.close()
            for worker in workers:
                worker.join(SOON_S)
    with logstore.open(tmp_path) as store:
        found += [value for value, _ in got(store.queue("jobs"))]
    assert sorted(found) == sorted([b"%d" % number for number in range(300)] * 3)


SOAK = """
import logstore, os, random, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
path, lives, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(seed)
journal = os.open(path + ".journal", os.O_RDWR | os.O_CREAT | os.O_APPEND)

def live(number):
    queue = logstore.open(path).queue("jobs", durability=sys.argv[4], max_deliveries=0)
    def put(thread):
        for i in range(10**6):
            value = b"%d.%d.%d" % (number, thread, i)
            queue.put(value, key=value[-1:])
            os.write(journal, b"put %s\\n" % value)
    def work():
        for job in queue:
            os.write(journal, b"got %s %d\\n" % (job.value, job.deliveries))
            if random.random() < 0.2:
                job.nack()
            else:
                job.ack()
                os.write(journal, b"ack %s\\n" % job.value)
    for run in (lambda: put(0), lambda: put(1), work, work):
        threading.Thread(target=run, daemon=True).start()
    time.sleep(60)

with logstore.open(path) as store:
    store.queue("jobs")
for number in range(lives):
    child = os.fork()
    if not child:
        live(number)
        os._exit(0)
    time.sleep(0.05 + 0.25 * random.random())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    events = [line.split() for line in os.pread(journal, 1 << 30, 0).splitlines()]
    put = {event[1] for event in events if event[0] == b"put"}
    acked = {event[1] for event in events if event[0] == b"ack"}
    counts = {}
    done = set()
    for event in events:
        if event[0] == b"ack":
            done.add(event[1])
        elif event[0] == b"got":
            assert event[1] not in done, (event[1], "was acked, and came again")
            assert int(event[2]) > counts.get(event[1], 0), (event, counts[event[1]])
            counts[event[1]] = int(event[2])
    with logstore.open(path, read_only=True) as store:
        from logstore.client.queue.read_only import ReadOnlyQueue
        left = {message.value for message in ReadOnlyQueue(store, "jobs").peek(None)}
        in_flight = ReadOnlyQueue(store, "jobs").stats().in_flight
    assert len(put - acked - left) <= in_flight + 2 * (number + 1)  # acked, but not yet in the journal
    assert not acked & left, acked & left
with logstore.open(path) as store:
    queue = store.queue("jobs", durability="os")
    left = set()
    try:
        while True:
            left |= {job.value for job in queue.get_many(1000, block=False)}
    except logstore.Empty:
        pass
assert not acked & left
assert len(put - acked - left) <= 2 * lives, len(put - acked - left)
print(len(put), len(acked), len(left))
"""


@pytest.mark.parametrize(
    ("durability", "lives"),
    [
        ("os", 5),
        ("fsync", 5),
        pytest.param("os", 60, marks=pytest.mark.slow),
        pytest.param("fsync", 60, marks=pytest.mark.slow),
    ],
)
def test_processes_that_are_killed_lose_no_message_and_bring_none_back(
    tmp_path: Path, durability: str, lives: int
) -> None:
    printed = run_python(SOAK, tmp_path / "data", lives, 7, durability, timeout_s=110).stdout
    put, acked, _ = map(int, printed.split())
    check_verified(tmp_path / "data")
    assert put > 20
    assert acked > 5
