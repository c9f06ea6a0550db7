import pytest
from confluent_kafka import KafkaError
from kio.schema.errors import ErrorCode as KioErrorCode

from logstore import errors
from logstore.wire.error_codes import ErrorCode, error_code

# What only the callers of this process can do or meet: a broker that lets one of these out has a mistake of its own.
OURS = {
    "LogstoreError",
    # starting: a directory, a broker
    "CannotListen",
    "DataDirLocked",
    "InvalidConfigFile",
    "NotADataDir",
    "ReadOnly",
    "ForkedProcess",
    # clients in this process
    "ClusterFailure",
    "ConcurrentUse",
    "CopyRefused",
    "Empty",
    "Full",
    "MissingExtra",
    "NoCommittedOffset",
    "NotAssigned",
    "NotInFlight",
    "PollIntervalExceeded",
    "SerializationFailed",
    "Unsupported",
}

CODES = {
    "BufferFull": 7,  # REQUEST_TIMED_OUT
    "Closed": 56,  # KAFKA_STORAGE_ERROR
    "CorruptBatch": 2,  # CORRUPT_MESSAGE
    "CorruptCheckpoint": 56,
    "CorruptData": 42,  # INVALID_REQUEST
    "CorruptIndex": 56,
    "CorruptSnapshot": 56,
    "DamagedLog": 2,
    "DamagedTopic": 56,
    "DiskFull": 56,
    "FencedInstance": 82,
    "FencedMemberEpoch": 110,
    "StaleMemberEpoch": 113,
    "UnreleasedInstance": 111,
    "UnsupportedAssignor": 112,
    "InvalidTopicPattern": 128,  # INVALID_REGULAR_EXPRESSION
    "GroupFull": 81,
    "GroupNotEmpty": 68,
    "IllegalGeneration": 22,
    "InconsistentProtocol": 23,
    "InvalidArgument": 42,
    "InvalidGroupId": 24,
    "InvalidRecord": 87,
    "InvalidSessionTimeout": 26,
    "InvalidSetting": 40,
    "InvalidTimestamp": 32,
    "InvalidTopicName": 17,
    "MalformedMessage": 42,
    "MemberIdRequired": 79,
    "OffsetGap": 2,
    "OffsetMetadataTooLarge": 12,
    "OffsetOutOfRange": 1,
    "OutOfOrderSequence": 45,
    "PartitionOffline": 56,
    "ProducerFenced": 47,  # INVALID_PRODUCER_EPOCH
    "RebalanceInProgress": 27,
    "RecordTooLarge": 10,
    "StorageFailure": 56,
    "SubscribedToTopic": 86,
    "TimedOut": 7,
    "TopicAlreadyExists": 36,
    "UnknownGroup": 69,
    "UnknownMember": 25,
    "UnknownPartition": 3,
    "UnknownTopic": 3,
    "UnsupportedMagic": 43,
}


def code_of(name: str) -> int:
    cls = getattr(errors, name)
    return error_code(cls.__new__(cls))


def test_each_exception_has_a_code_that_was_thought_about() -> None:
    assert {*CODES} | OURS == {*errors.__all__}


@pytest.mark.parametrize("name", CODES)
def test_a_client_is_told_what_it_can_act_upon(name: str) -> None:
    assert code_of(name) == CODES[name]


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_no_client_can_cause_is_an_unknown_server_error(name: str) -> None:
    assert code_of(name) == ErrorCode.UNKNOWN_SERVER_ERROR


def test_other_exceptions_are_unknown_server_errors() -> None:
    assert error_code(KeyError("x")) == error_code(KeyboardInterrupt()) == ErrorCode.UNKNOWN_SERVER_ERROR


def test_codes_are_all_that_kafka_has_as_kio_lists_them() -> None:
    assert {code.name.lower(): code.value for code in ErrorCode} == {code.name: code.value for code in KioErrorCode}


def test_codes_are_those_of_librdkafka() -> None:
    """Which has its own words for some, and does not know those that only brokers tell each other."""
    theirs = {getattr(KafkaError, name): name for name in dir(KafkaError) if not name.startswith("_")}
    others = {code.name: theirs[code] for code in ErrorCode if code in theirs and theirs[code] != code.name}
    assert others == {
        "UNKNOWN_SERVER_ERROR": "UNKNOWN",
        "NONE": "NO_ERROR",
        "CORRUPT_MESSAGE": "INVALID_MSG",
        "UNKNOWN_TOPIC_OR_PARTITION": "UNKNOWN_TOPIC_OR_PART",
        "INVALID_FETCH_SIZE": "INVALID_MSG_SIZE",
        "NOT_LEADER_OR_FOLLOWER": "NOT_LEADER_FOR_PARTITION",
        "MESSAGE_TOO_LARGE": "MSG_SIZE_TOO_LARGE",
        "STALE_CONTROLLER_EPOCH": "STALE_CTRL_EPOCH",
        "INVALID_TOPIC_EXCEPTION": "TOPIC_EXCEPTION",
    }
    assert len([code for code in ErrorCode if code in theirs]) > 120
