"""Bytes on the disk a message, and what each codec makes of text as services log it."""

from pathlib import Path

import pytest

import logstore
from bench.conftest import Contest, log_lines, per_second
from bench.peers import Peer
from logstore import Compression


def test_w7_bytes_a_message_of_100(peers: dict[str, Peer], contest: Contest) -> None:
    count = 100_000
    for peer in peers.values():
        for _ in range(count // 1000):
            peer.append_batch([b"m" * 100] * 1000)
    if "sqlite" in peers:
        peers["sqlite"].db.execute("pragma wal_checkpoint(truncate)")  # type: ignore[attr-defined]
    measures = {name: lambda peer=peer: peer.size() / count for name, peer in peers.items()}
    contest("W7 size of a message of 100 B", "bytes", measures, rounds=1)


CODECS = [codec for codec in Compression if codec is not Compression.NONE]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name.lower())
@pytest.mark.parametrize("what", ["size", "append", "read"])
def test_w7_compression(place: Path, contest: Contest, codec: Compression, what: str) -> None:
    lines = log_lines(20_000)
    size = sum(map(len, lines))
    batches = [lines[start : start + 1000] for start in range(0, len(lines), 1000)]
    name = codec.name.lower()
    with logstore.open(place / "store") as store:
        logs = {}
        for topic, compression in (("none", Compression.NONE), (name, codec)):
            store.create_topic(topic)
            logs[topic] = store.log(topic), compression

        def append(topic: str) -> None:
            log, compression = logs[topic]
            for batch in batches:
                log.append(batch, compression=compression)

        def read(topic: str) -> None:
            for batch in logs[topic][0].batches(0):
                batch.columns()

        append("none")
        append(name)
        if what == "size":
            contest(
                f"W7 log text, {name}: size a byte of text",
                "bytes",
                {
                    label: lambda topic=topic: logs[topic][0].view.size / size
                    for label, topic in (("logstore", name), ("uncompressed", "none"))
                },
                rounds=1,
            )
            return
        action = append if what == "append" else read
        contest(
            f"W7 log text, {name}: {what}",
            "MB/s",
            {
                label: lambda topic=topic: per_second(size, lambda: action(topic)) / 1e6
                for label, topic in (("logstore", name), ("uncompressed", "none"))
            },
            rounds=7,
        )
