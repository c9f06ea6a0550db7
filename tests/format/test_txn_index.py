"""Aborted transactions: Kafka's own files, both directions, and what is refused."""

import random

import pytest

from kafka_golden import GOLDEN
from logstore.errors import CorruptIndex
from logstore.format.txn_index import ENTRY_SIZE, AbortedTransaction, decode, encode


def test_kafkas_own_files_are_read_and_written_back_byte_for_byte() -> None:
    paths = sorted((GOLDEN / "data" / "transactions-0").glob("*.txnindex"))
    assert paths
    for path in paths:
        content = path.read_bytes()
        assert encode(decode(content)) == content
    assert decode(paths[0].read_bytes()) == [AbortedTransaction(3, 6, 11, 12)]


@pytest.mark.parametrize(
    ("transactions", "position"),
    [
        ([AbortedTransaction(1, 5, 4, 5)], 0),
        ([AbortedTransaction(1, -1, 4, 5)], 0),
        ([AbortedTransaction(-1, 1, 4, 5)], 0),
        ([AbortedTransaction(1, 1, 4, 5), AbortedTransaction(2, 1, 4, 5)], ENTRY_SIZE),
    ],
)
def test_entries_that_cannot_be_are_refused(transactions: list[AbortedTransaction], position: int) -> None:
    with pytest.raises(CorruptIndex) as error:
        decode(encode(transactions))
    assert error.value.position == position


def test_a_torn_entry_and_an_unknown_version_are_refused() -> None:
    good = encode([AbortedTransaction(1, 2, 3, 4)])
    for size in range(1, ENTRY_SIZE):
        with pytest.raises(CorruptIndex):
            decode(good + good[:size])
    with pytest.raises(CorruptIndex):
        decode(b"\0\1" + good[2:])


def test_random_bytes_raise_nothing_else() -> None:
    source = random.Random(3)
    refused = 0
    for size in range(200):
        try:
            decode(source.randbytes(size))
        except CorruptIndex:
            refused += 1
    assert refused
