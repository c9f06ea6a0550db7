"""Every error: what it is made of, what it says, and that it goes from one process to another."""

import inspect
import pickle

import pytest

from logstore import errors
from logstore.errors import (
    BufferFull,
    CorruptBatch,
    DamagedLog,
    LogstoreError,
    RecordTooLarge,
    TimedOut,
    UnknownPartition,
)

KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, LogstoreError) and kind is not LogstoreError
]


def made(kind: type[LogstoreError]) -> LogstoreError:
    """One whose facts are all different: numbers, which may stand for text too."""
    return kind(*range(1001, 1001 + len(kind.fact_names)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_has_its_facts_as_attributes_and_says_them(kind: type[LogstoreError]) -> None:
    error = made(kind)
    assert [getattr(error, name) for name in kind.fact_names] == list(range(1001, 1001 + len(kind.fact_names)))
    assert str(error) == error.message
    assert "1001" in error.message
    assert "{" not in error.message


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_the_same_after_pickling(kind: type[LogstoreError]) -> None:
    again = pickle.loads(pickle.dumps(made(kind)))
    assert type(again) is kind
    assert vars(again) == vars(made(kind))
    assert str(again) == str(made(kind))


def test_facts_may_be_named_and_have_defaults() -> None:
    assert str(UnknownPartition("t", partition_count=3, partition=7)) == "topic 't' has partitions 0 to 2, not 7"
    assert CorruptBatch("bad").args == ("bad", 0, "")
    assert BufferFull("room", 1.0).remedy == ""
    assert str(TimedOut("flushing", 0.5, "send less")) == "flushing: not within 0.5 s; send less"
    assert RecordTooLarge(2, 1).setting == "max.message.bytes"


@pytest.mark.parametrize("values", [("t",), ("t", 1, 2, 3)], ids=["too few", "too many"])
def test_an_error_has_all_its_facts_and_no_others(values: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match="topic, partition, partition_count"):
        UnknownPartition(*values)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="topic, partition, partition_count"):
        UnknownPartition("t", 1, 2, offset=3)  # type: ignore[call-arg]


def test_damage_found_in_a_piece_of_a_file_is_placed_in_the_file() -> None:
    placed = DamagedLog("bad", 4, "", 9).within("f", 10)
    assert type(placed) is DamagedLog
    assert placed.args == ("bad", 14, "f", 9)
