"""Producer ids are given once, whatever happens to the process."""

from pathlib import Path
from threading import Thread

import pytest

from logstore.broker.producer_ids import BLOCK_SIZE, ProducerIds
from logstore.errors import CorruptCheckpoint, StorageFailure
from logstore.format import filename
from logstore.storage import files


def test_ids_go_up_from_0_over_the_ends_of_blocks(tmp_path: Path) -> None:
    ids = ProducerIds(tmp_path)
    assert [ids.next_id() for _ in range(BLOCK_SIZE + 2)] == list(range(BLOCK_SIZE + 2))


def test_after_a_crash_no_id_is_given_again(tmp_path: Path) -> None:
    assert ProducerIds(tmp_path).next_id() == 0
    assert ProducerIds(tmp_path).next_id() == BLOCK_SIZE


def test_only_the_first_of_a_block_needs_the_disk(tmp_path: Path) -> None:
    ids = ProducerIds(tmp_path)
    assert not ids.is_ready
    for _ in range(BLOCK_SIZE - 1):
        ids.next_id()
        assert ids.is_ready
    ids.next_id()
    assert not ids.is_ready


def test_an_id_whose_block_could_not_be_recorded_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ProducerIds(tmp_path)

    def fail(*args: object, **kwargs: object) -> None:
        raise StorageFailure("p", "sync", 5, "no")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_file", fail)
        with pytest.raises(StorageFailure):
            ids.next_id()
    assert ids.next_id() == 0


@pytest.mark.parametrize("stored", [b"", b"12", b"-1\n", b"x\n", b"9223372036854775807\n", b"1\n2\n"])
def test_a_damaged_file_is_told_and_nothing_is_guessed(tmp_path: Path, stored: bytes) -> None:
    (tmp_path / filename.PRODUCER_IDS).write_bytes(stored)
    with pytest.raises(CorruptCheckpoint):
        ProducerIds(tmp_path).next_id()


def test_threads_that_ask_at_once_get_different_ids(tmp_path: Path) -> None:
    ids = ProducerIds(tmp_path)
    given: list[int] = []
    threads = [Thread(target=lambda: given.extend(ids.next_id() for _ in range(700))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(2800))
