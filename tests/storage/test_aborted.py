"""Aborted transactions and the last stable offset, against a plain walk over all batches."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from log_tools import NOW, open_log
from logstore.format.batch import CONTROL, TRANSACTIONAL, encode_batch
from logstore.format.control_record import control_type, encode_marker
from logstore.storage.log_view import LogView
from logstore.storage.partition import PartitionLog


class Producers:
    """Writes transactions of a few producers, interleaved, and plain records between them."""

    def __init__(self, log: PartitionLog, seed: int) -> None:
        self.log, self._random = log, Random(seed)
        self.open: set[int] = set()
        self._sequences = dict.fromkeys(range(1, 5), 0)

    def run(self, count: int) -> None:
        for _ in range(count):
            producer_id = self._random.randrange(5)
            if producer_id == 0:
                self.log.append([b"plain"] * self._random.randrange(1, 4))
            elif producer_id in self.open and self._random.random() < 0.3:
                self.end(producer_id, is_commit=self._random.random() < 0.5)
            else:
                self.write(producer_id)

    def write(self, producer_id: int) -> None:
        sequence = self._sequences[producer_id]
        self._sequences[producer_id] += 2
        self.open.add(producer_id)
        self.log.append_batch(
            encode_batch(
                [b"a", b"b"],
                timestamps_ms=NOW,
                attributes=TRANSACTIONAL,
                producer_id=producer_id,
                producer_epoch=0,
                base_sequence=sequence,
            )
        )

    def end(self, producer_id: int, *, is_commit: bool) -> None:
        self.open.discard(producer_id)
        key, value = encode_marker(int(is_commit), 0)
        self.log.append_batches(
            encode_batch(
                [value],
                keys=[key],
                timestamps_ms=NOW,
                attributes=TRANSACTIONAL | CONTROL,
                producer_id=producer_id,
                producer_epoch=0,
            )
        )


def expected(view: LogView, first: int, end: int) -> list[tuple[int, int, int]]:
    open_since: dict[int, list[int]] = {}
    found = []
    for batch in view.batches(view.log_start_offset):
        header = batch.header
        if header.is_control:
            records = [offset for offset in open_since.pop(header.producer_id, []) if first <= offset < end]
            if records and control_type(batch.records()[0]) == "ABORT":
                found.append((header.producer_id, records[0], header.base_offset))
        elif header.is_transactional:
            open_since.setdefault(header.producer_id, []).append(header.base_offset)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_those_between_two_offsets_are_found_in_whatever_order_they_are_asked_for(tmp_path: Path, seed: int) -> None:
    log = open_log(tmp_path / "t_0", segment_bytes=1500, index_interval_bytes=200)
    log.append([b"plain"] * 50)
    producers = Producers(log, seed)
    for is_reopened in (False, True):
        producers.run(120)
        if is_reopened:
            end = log.log_end_offset
            log.close()
            log = open_log(tmp_path / "t_0", segment_bytes=1500, recovery_point=end, is_clean=True)
        starts = [batch.header.base_offset for batch in log.batches(0)]
        random = Random(seed)
        for _ in range(150):
            stable = log.last_stable_offset
            first, end = sorted(random.sample([start for start in starts if start <= stable], 2))
            assert log.aborted_transactions(first, end) == expected(log.view, first, end)
            assert log.aborted.may_be(first, end) or not expected(log.view, first, end)


def test_the_last_stable_offset_is_where_the_first_open_transaction_begins(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    producers = Producers(log, 0)
    log.append([b"plain"])
    assert log.last_stable_offset == 1
    producers.write(1)
    producers.write(2)
    log.append([b"plain"])
    assert log.last_stable_offset == 1
    producers.end(1, is_commit=True)
    assert log.last_stable_offset == 3
    producers.end(2, is_commit=False)
    assert log.last_stable_offset == log.log_end_offset
    assert log.aborted_transactions(0, log.log_end_offset) == [(2, 3, 7)]


def test_a_log_without_transactions_is_walked_through_once_and_what_is_appended_to_it_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "t_0")
    log.append([b"plain"] * 3)
    log.close()
    log = open_log(tmp_path / "t_0", recovery_point=3, is_clean=True)
    for _ in range(9):
        log.append([b"plain"])
    walks: list[int] = []
    real = LogView.headers

    def noted(self: LogView, offset: int) -> Any:
        walks.append(offset)
        return real(self, offset)

    monkeypatch.setattr(LogView, "headers", noted)
    assert not log.aborted.may_be(3, 12) and log.aborted.may_be(0, 12)
    for _ in range(3):
        assert log.aborted_transactions(0, 12) == log.aborted_transactions(3, 12) == []
    assert walks == [0]
    assert not log.aborted.may_be(0, 3)


def test_what_was_known_of_a_log_is_forgotten_where_it_was_cut(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t_0")
    for _ in range(10):
        log.append([b"plain"])
    log.close()
    log = open_log(tmp_path / "t_0", recovery_point=10, is_clean=True)
    assert log.aborted_transactions(0, 10) == []
    log.truncate_to(2)
    producers = Producers(log, 0)
    producers.write(1)
    producers.end(1, is_commit=False)
    assert log.aborted_transactions(0, 5) == log.aborted_transactions(2, 5) == [(1, 2, 4)]
