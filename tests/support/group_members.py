"""Members of groups, a step at a time, on a real coordinator; and a directory whose clocks a test moves."""

from pathlib import Path
from queue import Queue
from typing import Any

from clocks import QUIET
from logstore.errors import LogstoreError
from logstore.format.consumer_protocol import Subscription, encode_subscription
from logstore.groups.coordinator import GroupCoordinator
from logstore.groups.requests import JoinReply, JoinRequest, LeavingMember, SyncReply, SyncRequest
from logstore.storage.data_dir import DataDir
from logstore.store import TopicStore

NOW = 1_700_000_000_000
PATIENCE_S = 30.0


class Member:
    """What it is told is in ``replies``, in order. ``member_id`` and ``generation`` are those told last."""

    def __init__(self, coordinator: GroupCoordinator, group: str = "g", *topics: str, **fields: Any) -> None:
        self.coordinator, self.group = coordinator, group
        self.member_id, self.generation, self.leader = "", -1, ""
        self.replies: Queue[Any] = Queue()
        self._fields: dict[str, Any] = {
            "protocol_type": "consumer",
            "protocols": (("range", encode_subscription(Subscription(topics or ("orders",)))),),
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 60_000,
            "client_id": "client",
            **fields,
        }

    def ask_to_join(self) -> None:
        request = JoinRequest(group=self.group, member_id=self.member_id, **self._fields)
        self.coordinator.join(request, self.replies.put)

    def ask_to_sync(self, **assignments: bytes) -> None:
        given = tuple(assignments.items())
        request = SyncRequest(self.group, self.member_id, self.generation, given, self._fields.get("instance_id"))
        self.coordinator.sync(request, self.replies.put)

    def reply(self) -> Any:
        """The next one; errors are raised."""
        reply = self.replies.get(timeout=PATIENCE_S)
        if isinstance(reply, LogstoreError):
            raise reply
        if isinstance(reply, JoinReply):
            self.member_id, self.generation, self.leader = reply.member_id, reply.generation, reply.leader
        return reply

    def join(self) -> JoinReply:
        """Alone, or as the last one of those who join."""
        self.ask_to_join()
        reply: JoinReply = self.reply()
        return reply

    def sync(self, assignments: dict[str, bytes] | None = None) -> SyncReply:
        self.ask_to_sync(**(assignments or {}))
        reply: SyncReply = self.reply()
        return reply

    def enter(self) -> "Member":
        """Join and sync, alone in the group."""
        self.join()
        self.sync({self.member_id: b"all"})
        return self

    def heartbeat(self) -> None:
        self.coordinator.heartbeat(self.group, self.member_id, self.generation, self._fields.get("instance_id"))

    def leave(self) -> LogstoreError | None:
        [error] = self.coordinator.leave(self.group, [LeavingMember(self.member_id)])
        return error

    @property
    def identity(self) -> dict[str, Any]:
        """To commit with."""
        instance_id = self._fields.get("instance_id")
        return {"member_id": self.member_id, "generation": self.generation, "instance_id": instance_id}


class ClockedStore:
    """A store that does nothing by itself, and whose times are ``now_ms``, of the wall, and ``clock_ms``."""

    def __init__(self, path: Path, *, keeps_members: bool = False, now_ms: int = NOW, **settings: object) -> None:
        self.now_ms, self.clock_ms = now_ms, 1_000
        self.path = path
        self._keeps_members, self._settings = keeps_members, settings
        self.open()

    def open(self) -> None:
        self.data_dir = DataDir(self.path, QUIET.replace(self._settings), now_ms=lambda: self.now_ms)
        self.store = TopicStore(self.data_dir)
        self.groups = GroupCoordinator(self.data_dir, keeps_members=self._keeps_members, clock_ms=lambda: self.clock_ms)
        self.store._groups = self.groups

    def reopen(self) -> None:
        self.close()
        self.open()

    def passes(self, time_ms: int) -> None:
        """Time, by both clocks; what is due then is done."""
        self.now_ms += time_ms
        self.clock_ms += time_ms
        self.groups.run_due()

    def close(self) -> None:
        self.store.close()
