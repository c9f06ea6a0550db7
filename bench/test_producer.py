"""Producers: one thread sends records one at a time, and they are stored in batches behind its back.

The peers append one at a time, as their callers would have to; a round ends when all is stored.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

import logstore
from bench.conftest import Contest, per_second
from bench.peers import Logstore
from bench.queue_peers import QueuePeer

_VALUE = b"m" * 100


@pytest.mark.parametrize("acks", ["1", "all"])
def test_p1_send(request: pytest.FixtureRequest, place: Path, contest: Contest, acks: str) -> None:
    is_durable = acks == "all"
    peers: dict[str, QueuePeer] = request.getfixturevalue("durable_queue_peers" if is_durable else "queue_peers")
    log = Logstore(place / "log", durable=is_durable)
    with logstore.open(place / "producer") as store:
        store.create_topic("bench")
        producer = store.producer(acks=acks)

        def send(count: int) -> None:
            for _ in range(count):
                producer.send("bench", _VALUE)
            producer.flush()

        def append(put: Callable[[bytes], object], count: int) -> None:
            for _ in range(count):
                put(_VALUE)

        count = 200 if is_durable else 1000
        puts = {name: peer.put for name, peer in peers.items() if name != "logstore"}
        puts["append to a log"] = log.append
        measures = {name: lambda put=put: per_second(count, lambda: append(put, count)) for name, put in puts.items()}
        measures["logstore"] = lambda: per_second(20_000, lambda: send(20_000))
        others = "put with an fsync" if is_durable else "put"
        contest(f"P1 send 100 B, acks={acks} (others: {others})", "messages/s", measures, rounds=11)
    log.close()
