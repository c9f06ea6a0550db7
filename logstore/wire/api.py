"""Kafka's APIs: their keys, and the table of those that the broker speaks, with the versions that it advertises.

A client takes an advertised range as a promise, and infers from some what release of Kafka it talks to (Fetch up to 17,
ListOffsets up to 9: 3.9). So only what works stands in the table, and what one release brought comes in together.
"""

import importlib
from collections.abc import Mapping
from enum import IntEnum, unique
from functools import cached_property
from types import MappingProxyType

from logstore.wire.schema import Message


@unique
class ApiKey(IntEnum):
    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    LEADER_AND_ISR = 4
    STOP_REPLICA = 5
    UPDATE_METADATA = 6
    CONTROLLED_SHUTDOWN = 7
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    WRITE_TXN_MARKERS = 27
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_ACLS = 29
    CREATE_ACLS = 30
    DELETE_ACLS = 31
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    ALTER_REPLICA_LOG_DIRS = 34
    DESCRIBE_LOG_DIRS = 35
    SASL_AUTHENTICATE = 36
    CREATE_PARTITIONS = 37
    CREATE_DELEGATION_TOKEN = 38
    RENEW_DELEGATION_TOKEN = 39
    EXPIRE_DELEGATION_TOKEN = 40
    DESCRIBE_DELEGATION_TOKEN = 41
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    ALTER_PARTITION_REASSIGNMENTS = 45
    LIST_PARTITION_REASSIGNMENTS = 46
    OFFSET_DELETE = 47
    DESCRIBE_CLIENT_QUOTAS = 48
    ALTER_CLIENT_QUOTAS = 49
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50
    ALTER_USER_SCRAM_CREDENTIALS = 51
    VOTE = 52
    BEGIN_QUORUM_EPOCH = 53
    END_QUORUM_EPOCH = 54
    DESCRIBE_QUORUM = 55
    ALTER_PARTITION = 56
    UPDATE_FEATURES = 57
    ENVELOPE = 58
    FETCH_SNAPSHOT = 59
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    BROKER_REGISTRATION = 62
    BROKER_HEARTBEAT = 63
    UNREGISTER_BROKER = 64
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66
    ALLOCATE_PRODUCER_IDS = 67
    CONSUMER_GROUP_HEARTBEAT = 68
    CONSUMER_GROUP_DESCRIBE = 69
    CONTROLLER_REGISTRATION = 70
    GET_TELEMETRY_SUBSCRIPTIONS = 71
    PUSH_TELEMETRY = 72
    ASSIGN_REPLICAS_TO_DIRS = 73
    LIST_CONFIG_RESOURCES = 74
    DESCRIBE_TOPIC_PARTITIONS = 75
    SHARE_GROUP_HEARTBEAT = 76
    SHARE_GROUP_DESCRIBE = 77
    SHARE_FETCH = 78
    SHARE_ACKNOWLEDGE = 79
    ADD_RAFT_VOTER = 80
    REMOVE_RAFT_VOTER = 81
    UPDATE_RAFT_VOTER = 82
    INITIALIZE_SHARE_GROUP_STATE = 83
    READ_SHARE_GROUP_STATE = 84
    WRITE_SHARE_GROUP_STATE = 85
    DELETE_SHARE_GROUP_STATE = 86
    READ_SHARE_GROUP_STATE_SUMMARY = 87
    STREAMS_GROUP_HEARTBEAT = 88
    STREAMS_GROUP_DESCRIBE = 89
    DESCRIBE_SHARE_GROUP_OFFSETS = 90
    ALTER_SHARE_GROUP_OFFSETS = 91
    DELETE_SHARE_GROUP_OFFSETS = 92


class Api:
    """``advertised``: the first and the last version that clients are told of; ``request.versions`` can be decoded.

    The messages are found by the API's name, and imported when first asked for: a broker that starts needs few.
    """

    def __init__(self, key: ApiKey, advertised: tuple[int, int]) -> None:
        self.key = key
        self.advertised = advertised

    def __repr__(self) -> str:
        return f"Api({self.key!r}, {self.advertised})"

    @cached_property
    def request(self) -> type[Message]:
        return self._message("Request")

    @cached_property
    def response(self) -> type[Message]:
        return self._message("Response")

    def _message(self, kind: str) -> type[Message]:
        module = importlib.import_module(f"logstore.wire.messages.{self.key.name.lower()}")
        message: type[Message] = getattr(module, self.key.name.title().replace("_", "") + kind)
        return message


_ADVERTISED = (
    # The core: producing and fetching.
    Api(ApiKey.API_VERSIONS, (0, 4)),
    Api(ApiKey.METADATA, (0, 13)),
    # librdkafka tells by a minimum of 0 which codecs a broker knows (KAFKA-18659); below 3 nothing can be decoded.
    Api(ApiKey.PRODUCE, (0, 11)),
    Api(ApiKey.FETCH, (4, 17)),
    Api(ApiKey.LIST_OFFSETS, (1, 9)),
    Api(ApiKey.INIT_PRODUCER_ID, (0, 5)),
    Api(ApiKey.CREATE_TOPICS, (2, 7)),
    Api(ApiKey.DELETE_TOPICS, (1, 6)),
    Api(ApiKey.OFFSET_FOR_LEADER_EPOCH, (2, 4)),
    # Groups of the classic protocol.
    Api(ApiKey.FIND_COORDINATOR, (0, 6)),
    Api(ApiKey.JOIN_GROUP, (0, 9)),
    Api(ApiKey.SYNC_GROUP, (0, 5)),
    Api(ApiKey.HEARTBEAT, (0, 4)),
    Api(ApiKey.LEAVE_GROUP, (0, 5)),
    Api(ApiKey.OFFSET_COMMIT, (2, 9)),
    Api(ApiKey.OFFSET_FETCH, (1, 9)),
    Api(ApiKey.DESCRIBE_GROUPS, (0, 5)),
    Api(ApiKey.LIST_GROUPS, (0, 5)),
    Api(ApiKey.DELETE_GROUPS, (0, 2)),
    Api(ApiKey.OFFSET_DELETE, (0, 0)),
    # Groups whose partitions the broker hands out (KIP-848).
    Api(ApiKey.CONSUMER_GROUP_HEARTBEAT, (0, 1)),
    Api(ApiKey.CONSUMER_GROUP_DESCRIBE, (0, 1)),
    # Administration.
    Api(ApiKey.CREATE_PARTITIONS, (0, 3)),
    Api(ApiKey.DELETE_RECORDS, (0, 2)),
    Api(ApiKey.DESCRIBE_CONFIGS, (1, 4)),
    Api(ApiKey.ALTER_CONFIGS, (0, 2)),
    Api(ApiKey.INCREMENTAL_ALTER_CONFIGS, (0, 1)),
    Api(ApiKey.DESCRIBE_CLUSTER, (0, 2)),
    Api(ApiKey.DESCRIBE_TOPIC_PARTITIONS, (0, 0)),
    Api(ApiKey.DESCRIBE_LOG_DIRS, (1, 4)),
    Api(ApiKey.DESCRIBE_PRODUCERS, (0, 0)),
    Api(ApiKey.LIST_CONFIG_RESOURCES, (0, 1)),
)

APIS: Mapping[int, Api] = MappingProxyType({api.key: api for api in _ADVERTISED})


def is_flexible(key: int, version: int) -> bool:
    """Whether this version of an API of the table has the compact encoding and tagged fields. KeyError: not there."""
    return APIS[key].request.is_flexible(version)
