"""A queue on a disk that is really full: it refuses what comes, and can be worked off, which makes room."""

import pytest

import logstore
from disk_image import Mount
from logstore.client.queue.queue import Queue


def fill(queue: Queue) -> None:
    while True:
        queue.put(bytes(20_000))


def test_a_queue_on_a_full_disk_can_be_worked_off_and_makes_room(mount: Mount) -> None:
    disk = mount("-t", "tmpfs", "-o", "size=44m", "tmpfs")
    with logstore.open(disk / "data") as store:
        queue = store.queue("jobs", durability="os")
        for _ in range(300):
            queue.put(b"before")
            queue.get().ack()
        with pytest.raises(logstore.DiskFull):
            fill(queue)
        for _ in range(len(queue)):
            job = queue.get(block=False)
            assert job.deliveries == 1
            job.ack()
        assert queue.empty()
        assert queue.stats().log_start_offset > 300
        queue.put_many([bytes(20_000)] * 200)
    with logstore.open(disk / "data") as store:
        assert len(store.queue("jobs").get_many(1000)) == 200
