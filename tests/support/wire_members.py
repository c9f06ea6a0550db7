"""Members of groups on a broker's wire, each with a connection of its own, a request at a time."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import pytest

from logstore.broker.broker import Broker
from logstore.broker.running import RunningBroker
from logstore.config import BrokerConfig, StoreConfig
from logstore.format.consumer_protocol import Subscription, encode_subscription
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.heartbeat import HeartbeatRequest
from logstore.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from logstore.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from logstore.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from logstore.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from logstore.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from wire_client import WireClient

GROUP_SETTINGS: dict[str, Any] = {
    "offsets_topic_num_partitions": 3,
    "group_initial_rebalance_delay_ms": 0,
    "group_min_session_timeout_ms": 100,
}


class GroupBroker:
    """A broker in a thread of this process that may be stopped and started; ``orders`` has three partitions."""

    def __init__(self, path: Path, **settings: Any) -> None:
        store_config = StoreConfig.parse({**GROUP_SETTINGS, **settings})
        self._running = RunningBroker(path, BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",)), store_config)
        self._members: list[WireMember] = []

    @property
    def address(self) -> str:
        return str(self._running.address)

    @property
    def broker(self) -> Broker:
        return self._running._running.broker

    def start(self) -> Self:
        self._running.start()
        if not any(topic.name == "orders" for topic in self.broker.store.topics()):
            self.broker.store.create_topic("orders", partitions=3)
        return self

    def member(self, group: str = "g", **fields: Any) -> "WireMember":
        """Its connection ends with the broker at the latest."""
        self._members.append(WireMember(self.address, group, **fields))
        return self._members[-1]

    def stop(self, keeps: "WireMember | None" = None) -> None:
        """``keeps``: the member whose connection the broker ends, and not the test before."""
        while self._members:
            member = self._members.pop()
            if member is not keeps:
                member.close()
        self._running.stop()


def protocol(name: str = "range", *topics: str) -> JoinGroupRequestProtocol:
    return JoinGroupRequestProtocol(name=name, metadata=encode_subscription(Subscription(topics or ("orders",))))


class WireMember:
    """``member_id``, ``generation`` and ``leader`` are those told last."""

    def __init__(self, address: str, group: str = "g", *, instance_id: str | None = None, **fields: Any) -> None:
        self.client = WireClient(address, client_id="a member")
        self.group, self.instance_id = group, instance_id
        self.member_id, self.generation, self.leader = "", -1, ""
        self._fields: dict[str, Any] = {
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 10_000,
            "protocol_type": "consumer",
            "protocols": [protocol()],
            **fields,
        }

    def join_request(self, **fields: Any) -> JoinGroupRequest:
        own = {"group_id": self.group, "member_id": self.member_id, "group_instance_id": self.instance_id}
        return JoinGroupRequest(**{**own, **self._fields, **fields})

    def ask_to_join(self, version: int = 9) -> None:
        """With an id: one that is told an id first comes again with it."""
        if not self.member_id and version >= 4 and self.instance_id is None:
            told = self.client.ask(self.join_request(), version)
            assert told.error_code == ErrorCode.MEMBER_ID_REQUIRED, told
            self.member_id = told.member_id
        self.client.send(self.join_request(), version)

    def joined(self) -> Any:
        reply = self.client.receive()
        if reply.error_code == 0:
            self.member_id, self.generation, self.leader = reply.member_id, reply.generation_id, reply.leader
        return reply

    def join(self, version: int = 9) -> Any:
        self.ask_to_join(version)
        return self.joined()

    def ask_to_sync(self, assignments: Mapping[str, bytes] = MappingProxyType({}), version: int = 5) -> None:
        self.client.send(
            SyncGroupRequest(
                group_id=self.group,
                generation_id=self.generation,
                member_id=self.member_id,
                group_instance_id=self.instance_id,
                protocol_type="consumer",
                protocol_name="range",
                assignments=[SyncGroupRequestAssignment(*given) for given in assignments.items()],
            ),
            version,
        )

    def sync(self, assignments: Mapping[str, bytes] = MappingProxyType({}), version: int = 5) -> Any:
        self.ask_to_sync(assignments, version)
        return self.client.receive()

    def enter(self) -> Self:
        """Join and sync, alone in the group."""
        assert self.join().error_code == 0
        synced = self.sync({self.member_id: b"all"})
        assert synced.error_code == 0 and bytes(synced.assignment) == b"all"
        return self

    def heartbeat(self, version: int = 4) -> int:
        request = HeartbeatRequest(self.group, self.generation, self.member_id, self.instance_id)
        code: int = self.client.ask(request, version).error_code
        return code

    def leave(self) -> int:
        request = LeaveGroupRequest(self.group, members=[MemberIdentity(self.member_id, self.instance_id)])
        code: int = self.client.ask(request, 5).members[0].error_code
        return code

    def commit(self, offsets: dict[tuple[str, int], int], version: int = 9) -> dict[tuple[str, int], int]:
        """The error codes, by partition."""
        return commit(self.client, self.group, offsets, version, (self.member_id, self.generation, self.instance_id))

    def close(self) -> None:
        self.client.close()


def commit(
    client: WireClient,
    group: str,
    offsets: dict[tuple[str, int], int],
    version: int = 9,
    member: tuple[str, int, str | None] = ("", -1, None),
    **fields: Any,
) -> dict[tuple[str, int], int]:
    """The error codes, by partition."""
    topics: dict[str, list[OffsetCommitRequestPartition]] = {}
    for (topic, number), offset in offsets.items():
        topics.setdefault(topic, []).append(
            OffsetCommitRequestPartition(number, offset, committed_metadata=f"{topic} {number}")
        )
    member_id, generation, instance_id = member
    request = OffsetCommitRequest(
        group_id=group,
        generation_id_or_member_epoch=generation,
        member_id=member_id,
        group_instance_id=instance_id,
        topics=[OffsetCommitRequestTopic(name=name, partitions=partitions) for name, partitions in topics.items()],
        **fields,
    )
    response = client.ask(request, version)
    return {
        (topic.name, partition.partition_index): partition.error_code
        for topic in response.topics
        for partition in topic.partitions
    }


def fetch(client: WireClient, group: str, topics: dict[str, list[int]] | None = None) -> dict[tuple[str, int], int]:
    """The committed offsets, by partition: of ``topics``, or all."""
    asked = (
        None
        if topics is None
        else [OffsetFetchRequestTopics(name=name, partition_indexes=numbers) for name, numbers in topics.items()]
    )
    response = client.ask(OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=asked)]), 9)
    [answer] = response.groups
    assert answer.error_code == 0 and answer.group_id == group
    return {
        (topic.name, partition.partition_index): partition.committed_offset
        for topic in answer.topics
        for partition in topic.partitions
    }


@pytest.fixture
def group_settings() -> dict[str, Any]:
    """What ``group_broker`` is set to besides; a test's parametrize may give another."""
    return {}


@pytest.fixture
def group_broker(tmp_path: Path, group_settings: dict[str, Any]) -> Iterator[GroupBroker]:
    running = GroupBroker(tmp_path / "data", **group_settings).start()
    yield running
    running.stop()
