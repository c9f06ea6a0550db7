"""A script that kills a process of producers, a consumer group and queue workers again and again, at any moment.

    client_soak.py DIRECTORY KILLS SEED

Each process opens the directory as the one before has left it, and its threads send, read and commit, put, get and ack
until the kill comes, in the middle of the opening at times. The last one is let live: it drains everything, and closes.
All along they note what they did (client_promises). Ends with 1 at a broken promise; prints a summary.
"""

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import logstore
from busy_writer import kill_after
from children import WrittenJournal, fork, wait
from client_promises import (
    Acked,
    Acking,
    AckRefused,
    ClientPromises,
    Committed,
    Ended,
    Got,
    Put,
    Read,
    Receipts,
    Resumed,
)
from damage import findings
from logstore.client.consumer import Consumer, ConsumerRecord
from logstore.client.producer import Producer
from logstore.client.queue.messages import Job
from logstore.errors import Empty, FencedInstance, IllegalGeneration, NotInFlight, RebalanceInProgress, UnknownMember
from promises import demand

LIFE_S_MAX = 0.5
OPENING_S_MAX = 0.03
PARTITIONS = 3
GROUPS = BY_HAND, AUTOMATIC = "by hand", "automatic"
DELIVERIES_MAX = 4
STALE = (FencedInstance, IllegalGeneration, RebalanceInProgress, UnknownMember)
STRATEGIES = (("range",), ("cooperative-sticky",))


class Life:
    """One process, with all that works in it."""

    def __init__(self, path: Path, journal: WrittenJournal, number: int, seed: int) -> None:
        self.journal, self.number = journal, number
        self.choose = random.Random(seed)
        self.store = logstore.open(path, offsets_topic_num_partitions=3, log_flush_offset_checkpoint_interval_ms=100)
        topics = {topic.name for topic in self.store.topics()}
        if "t" not in topics:
            self.store.create_topic("t", PARTITIONS, segment_bytes=20_000)
        self.queue = self.store.queue(
            "jobs", ordered=True, max_deliveries=DELIVERIES_MAX, visibility_timeout_ms=100, durability="os"
        )
        self.strategies = STRATEGIES[seed % 2]
        committed = {
            (group, key.partition): place.offset
            for group in GROUPS
            for key, place in self.store.groups.committed(group).items()
        }
        self.journal.note(Resumed(committed))

    def live(self) -> None:
        """Until the process ends, which is an error unless it is a kill."""
        works: list[Callable[[random.Random], None]] = [
            partial(self.send, "a", "all"),
            partial(self.send, "b", "1"),
            partial(self.consume, BY_HAND, ""),
            partial(self.consume, BY_HAND, ""),
            partial(self.consume, BY_HAND, "static"),
            partial(self.consume, AUTOMATIC, ""),
            partial(self.consume, AUTOMATIC, ""),
            self.put,
            self.work,
            self.work,
            self.work,
        ]
        for thread in [_thread(work, random.Random(self.choose.random())) for work in works]:
            thread.join()

    # ------------------------------------------------------------------------------------------------------ producers

    def send(self, name: str, acks: str, choose: random.Random) -> None:
        client = b"%d.%s" % (self.number, name.encode())
        count = 0
        while True:
            with self.store.producer(acks=acks, linger_ms=choose.choice((0, 1, 3)), batch_size=400) as producer:
                for _ in range(choose.randrange(1, 6)):
                    count = self._send_some(producer, client, count, choose.randrange(1, 40), choose)

    def _send_some(self, producer: Producer, client: bytes, first: int, count: int, choose: random.Random) -> int:
        values = [b"%s:%d" % (client, first + index) for index in range(count)]
        futures = [producer.send("t", value, key=choose.choice((None, value[-1:]))) for value in values]
        receipts = [future.result(60) for future in futures]
        self.journal.note(Receipts([(r.partition, r.offset, v) for r, v in zip(receipts, values, strict=True)]))
        return first + count

    # ------------------------------------------------------------------------------------------------------ consumers

    def consume(self, group: str, instance_id: str, choose: random.Random) -> None:
        while True:
            with self.open_consumer(
                group,
                group_instance_id=instance_id,
                max_poll_records=choose.choice((7, 500)),
                partition_assignment_strategy=self.strategies,
            ) as consumer:
                for _ in range(choose.randrange(1, 40)):
                    records = consumer.poll(0.02)
                    self.note_read(group, records)
                    if records and group == BY_HAND and choose.random() < 0.8:
                        self.commit(consumer)

    def open_consumer(self, group: str, **settings: Any) -> Consumer:
        return self.store.consumer(
            "t",
            group=group,
            auto_offset_reset="earliest",
            enable_auto_commit=group == AUTOMATIC,
            auto_commit_interval_ms=3,
            **settings,
        )

    def note_read(self, group: str, records: list[ConsumerRecord]) -> None:
        by_partition: dict[int, list[ConsumerRecord]] = {}
        for record in records:
            by_partition.setdefault(record.partition, []).append(record)
        for partition, found in by_partition.items():
            first = found[0].offset
            demand([record.offset for record in found] == list(range(first, first + len(found))), "a poll skips")
            self.journal.note(Read((group, partition), first, [record.value for record in found]))

    def commit(self, consumer: Consumer) -> None:
        positions = {(BY_HAND, number): consumer.position("t", number) for _, number in consumer.assignment()}
        try:
            consumer.commit()
        except STALE:
            return
        self.journal.note(Committed(positions))

    # ---------------------------------------------------------------------------------------------------------- queue

    def put(self, choose: random.Random) -> None:
        count = 0
        while True:
            if len(self.queue) > 300:
                time.sleep(0.001)
                continue
            key, value = b"key %d" % choose.randrange(9), b"%d:%d" % (self.number, count)
            receipt = self.queue.put(value, key=key, delay=choose.choice((0, 0, 0, 0.01)))
            self.journal.note(Put(receipt.offset, key, value))
            count += 1

    def work(self, choose: random.Random) -> None:
        while True:
            try:
                jobs = self.queue.get_many(choose.choice((1, 1, 3)), timeout=0.02)
            except Empty:
                continue
            for job in jobs:
                self.journal.note(Got(job.offset, job.deliveries, job.key or b"", job.value))
            for job in jobs:
                outcome = choose.random()
                if outcome < 0.8:
                    self.ack(job)
                elif outcome < 0.95:
                    self.give_back(job, choose.choice((0, 0, 0.01)))
                # else it comes back when its visibility timeout is over

    def ack(self, job: Job) -> None:
        self.journal.note(Acking(job.offset))
        try:
            job.ack()
        except NotInFlight:
            self.journal.note(AckRefused(job.offset))  # it took too long
            return
        self.journal.note(Acked(job.offset, job.deliveries))

    def give_back(self, job: Job, delay_s: float) -> None:
        try:
            job.nack(delay_s)
        except NotInFlight:
            pass

    # ------------------------------------------------------------------------------------------------------- draining

    def drain(self) -> None:
        """Read and ack all that is left, and close."""
        for group in GROUPS:
            with self.open_consumer(group) as consumer:
                deadline_s = time.monotonic() + 60
                while len(consumer.assignment()) < PARTITIONS or any(consumer.lag().values()):
                    demand(time.monotonic() < deadline_s, f"{group} does not come to the end: {consumer.lag()}")
                    self.note_read(group, consumer.poll(0.05))
                if group == BY_HAND:
                    self.commit(consumer)
            committed = self.store.groups.committed(group)
            self.journal.note(Committed({(group, key.partition): place.offset for key, place in committed.items()}))
        while self.unsettled_count():
            try:
                job = self.queue.get(timeout=1)
            except Empty:
                continue
            self.journal.note(Got(job.offset, job.deliveries, job.key or b"", job.value))
            self.ack(job)
        logs = [self.store.log("t", number) for number in range(PARTITIONS)]
        letters = [(letter.dead_letter, letter.value) for letter in self.queue.dead_letters.peek(None)]
        dead = [(letter.offset, letter.deliveries, value) for letter, value in letters if letter]
        self.journal.note(Ended([[record.value or b"" for record in log.records(0)] for log in logs], dead))
        self.store.close()

    def unsettled_count(self) -> int:
        stats = self.queue.stats()
        return stats.ready + stats.delayed + stats.in_flight + stats.blocked


def _thread(work: Callable[[random.Random], None], randomness: random.Random) -> threading.Thread:
    def run() -> None:
        try:
            work(randomness)
        except BaseException:  # noqa: BLE001  # it ends the process
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def main(scratch: Path, kill_count: int, seed: int) -> None:
    randomness = random.Random(seed)
    path, journal, promises = scratch / "data", WrittenJournal(), ClientPromises(GROUPS, DELIVERIES_MAX)
    started_s = time.monotonic()
    for number in range(kill_count):
        life_seed = randomness.randrange(1 << 32)
        is_opening = number and randomness.random() < 0.2
        delay_s = randomness.uniform(0, OPENING_S_MAX if is_opening else LIFE_S_MAX)
        status = kill_after(fork(lambda: Life(path, journal, number, life_seed).live()), delay_s)  # noqa: B023
        demand(status == -9, f"life {number} of seed {seed} ended with {status}")
        take(promises, journal, f"life {number} of seed {seed}, in {path}")
    status = wait(fork(lambda: Life(path, journal, kill_count, 0).drain()))
    demand(status == 0, f"draining ended with {status}")
    ended = take(promises, journal, f"draining {path}")
    promises.finish(ended)
    damages = findings(path)
    demand(not damages, f"verify found {damages[:3]}")
    print(
        f"{kill_count} kills in {time.monotonic() - started_s:.1f} s, {len(promises.receipts)} records acknowledged, "
        f"{sum(map(len, ended.partitions))} stored, {promises.counts['Committed']} commits, {len(promises.put)} "
        f"messages put, {promises.counts['Got']} handed out, {len(promises.acked)} acked, {len(ended.dead)} dead, "
        "0 broken promises"
    )


def take(promises: ClientPromises, journal: WrittenJournal, what: str) -> Ended:
    ended = Ended([], [])
    events = journal.take()
    try:
        promises.take(events)
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error
    return next((event for event in events if isinstance(event, Ended)), ended)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
