"""Members of a group by name, their requests, and a clock: what drives a ``Group`` as a coordinator would."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from logstore.config import StoreConfig
from logstore.errors import LogstoreError, MemberIdRequired, RebalanceInProgress
from logstore.format.consumer_protocol import Subscription, encode_subscription
from logstore.format.offsets_topic import GroupMetadataValue
from logstore.groups.group import Group, GroupState, Outcome
from logstore.groups.requests import (
    JoinReply,
    JoinRequest,
    LeavingMember,
    SyncReply,
    SyncRequest,
)

SESSION_MS, REBALANCE_MS = 10_000, 60_000
RANGE = (("range", b"topics"),)
OTHER = (("range", b"other topics"),)


def subscribed(*topics: str) -> tuple[tuple[str, bytes], ...]:
    """The protocols of a consumer that reads these."""
    return (("range", encode_subscription(Subscription(topics))),)


class Ask:
    """A request and its answers, of which there is to be one."""

    def __init__(self, who: str, told: Callable[[str, Any], None]) -> None:
        self.who, self._told = who, told
        self.answers: list[Any] = []

    def __call__(self, answer: Any) -> None:
        self.answers.append(answer)
        self._told(self.who, answer)

    @property
    def answer(self) -> Any:
        [answer] = self.answers
        return answer


class GroupDriver:
    """``stores`` what the group says at once, or while ``holds_stores`` when told to; with ``store_error`` it fails.

    ``ids`` and ``generations`` are what the members were told; ``log`` is (who asked what, the answer's class);
    ``heard_ms``: when a member id was last heard of, or answered.
    """

    def __init__(self, loaded: GroupMetadataValue | None = None, **settings: Any) -> None:
        self.config = StoreConfig(**settings)
        self.now_ms = 1_000
        self.ids: dict[str, str] = {}
        self.instances: dict[str, str] = {}
        self.generations: dict[str, int] = {}
        self.heard_ms: dict[str, int] = {}
        self.asks: list[Ask] = []
        self.log: list[tuple[str, type]] = []
        self.stored: list[GroupMetadataValue] = []
        self.holds_stores = False
        self.store_error: LogstoreError | None = None
        self._held: deque[Outcome] = deque()
        self.scheduled_ms: int | None = None  # when a coordinator would tick at the latest
        self._id_count = 0
        arguments = ("g", self.config, self._new_id)
        self.group = Group(*arguments) if loaded is None else Group.loaded(*arguments, loaded, self.now_ms)
        self._schedule(self.group.next_deadline_ms)

    def _new_id(self, prefix: str) -> str:
        self._id_count += 1
        return f"{prefix}-{self._id_count}"

    # ------------------------------------------------------------------------------------------------------- requests

    def join(self, name: str, protocols: tuple[tuple[str, bytes], ...] = RANGE, **fields: Any) -> Ask:
        request = JoinRequest(
            "g",
            fields.pop("member_id", self.ids.get(name, "")),
            fields.pop("protocol_type", "consumer"),
            protocols,
            fields.pop("session_timeout_ms", SESSION_MS),
            fields.pop("rebalance_timeout_ms", REBALANCE_MS),
            fields.pop("instance_id", self.instances.get(name)),
            client_id=name,
            **fields,
        )
        ask = self._ask(f"{name}.join", name, request.member_id)
        self._settle(self.group.join(request, ask, self.now_ms))
        return ask

    def sync(self, name: str, assignments: Mapping[str, bytes] | None = None, **fields: Any) -> Ask:
        """``assignments`` by name; without them the leader gives each member its own id in bytes."""
        member_id = fields.pop("member_id", self.ids.get(name, ""))
        if assignments is not None:
            given = {self.ids[other]: assignment for other, assignment in assignments.items()}
        elif self.group.members.leader == member_id:
            given = {member.member_id: member.member_id.encode() for member in self.group.members}
        else:
            given = {}
        generation = fields.pop("generation", self.generations.get(name, -1))
        instance_id = fields.pop("instance_id", self.instances.get(name))
        request = SyncRequest("g", member_id, generation, tuple(given.items()), instance_id, **fields)
        ask = self._ask(f"{name}.sync", name, member_id)
        self._settle(self.group.sync(request, ask, self.now_ms))
        return ask

    def heartbeat(self, name: str, **fields: Any) -> Any:
        return self._checked(f"{name}.heartbeat", self.group.heartbeat, name, fields)

    def commit(self, name: str, **fields: Any) -> Any:
        return self._checked(f"{name}.commit", self.group.check_commit, name, fields)

    def leave(self, *names: str, by_instance: bool = False) -> list[LogstoreError | None]:
        """``by_instance``: as an administrator takes static members out."""
        leaving = [
            LeavingMember("" if by_instance else self.ids.get(name, name), self.instances.get(name)) for name in names
        ]
        errors = self.leave_by(*leaving)
        self.log += [(f"{name}.leave", type(error)) for name, error in zip(names, errors, strict=True)]
        return errors

    def leave_by(self, *leaving: LeavingMember) -> list[LogstoreError | None]:
        errors, outcome = self.group.leave(leaving, self.now_ms)
        self._settle(outcome)
        return errors

    def kill(self) -> None:
        self._settle(self.group.kill())

    # ----------------------------------------------------------------------------------------------------- the clock

    def pass_ms(self, time_ms: int) -> None:
        """Tick whenever it is due, until then."""
        end_ms = self.now_ms + time_ms
        while (deadline_ms := self.group.next_deadline_ms) is not None and deadline_ms <= end_ms:
            self.now_ms = max(self.now_ms, deadline_ms)
            self.tick()
        self.now_ms = end_ms

    def live(self, *names: str, time_ms: int = REBALANCE_MS) -> None:
        """Time passes, in steps of 5 s, in which ``names`` and nobody else heartbeat."""
        for _ in range(time_ms // 5_000):
            for name in names:
                self.heartbeat(name)
            self.pass_ms(5_000)

    def tick(self) -> None:
        self.scheduled_ms = None
        self._settle(self.group.tick(self.now_ms))
        self._schedule(self.group.next_deadline_ms)
        assert (deadline_ms := self.group.next_deadline_ms) is None or deadline_ms > self.now_ms

    # ----------------------------------------------------------------------------------------------------- what comes

    @property
    def state(self) -> GroupState:
        return self.group.state

    @property
    def leader(self) -> str:
        return self.name_of(self.group.members.leader or "")

    def name_of(self, member_id: str) -> str:
        return next(name for name, known in self.ids.items() if known == member_id)

    def waiting(self) -> list[str]:
        return [ask.who for ask in self.asks if not ask.answers]

    def check(self) -> None:
        """What holds after every step, whatever has happened: no reply is lost, and nothing can hang for ever."""
        group = self.group
        assert all(len(ask.answers) <= 1 for ask in self.asks)
        replies = [reply for member in group.members for reply in (member.join_reply, member.sync_reply) if reply]
        held = [reply for outcome in self._held for reply, _ in outcome.replies]
        assert {id(ask) for ask in self.asks if not ask.answers} == {id(reply) for reply in (*replies, *held)}
        assert len({id(reply) for reply in replies}) == len(replies)
        assert group.members.joining_count == sum(member.is_joining for member in group.members)
        deadline_ms = group.next_deadline_ms
        assert deadline_ms is None or self._held or (self.scheduled_ms or deadline_ms + 1) <= deadline_ms
        assert (group.members.leader in group.members) if len(group.members) else group.members.leader is None
        if group.state is GroupState.PREPARING_REBALANCE:
            assert group._join_end_ms is not None
        if group.state is GroupState.COMPLETING_REBALANCE:
            assert group._sync_end_ms is not None or self._held
        if group._sync_end_ms is not None:
            assert group.state in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE)
        if group.state in (GroupState.EMPTY, GroupState.DEAD):
            assert not len(group.members)

    def release(self, error: LogstoreError | None = None) -> None:
        """What was held first is stored, or fails."""
        held = self._held.popleft()
        if error is None and held.to_store is not None:
            self.stored.append(held.to_store)
        self._give(held, self.group.stored(error, self.now_ms))

    @property
    def held_count(self) -> int:
        return len(self._held)

    def _ask(self, who: str, name: str, member_id: str) -> Ask:
        self.heard_ms[member_id] = self.now_ms

        def told(who: str, answer: Any) -> None:
            self.log.append((who, type(answer)))
            self.heard_ms[answer.member_id if isinstance(answer, JoinReply) else member_id] = self.now_ms
            if isinstance(answer, JoinReply):
                self.ids[name], self.generations[name] = answer.member_id, answer.generation
            elif isinstance(answer, MemberIdRequired):
                self.ids[name] = answer.member_id

        self.asks.append(Ask(who, told))
        return self.asks[-1]

    def _checked(self, who: str, check: Callable[..., None], name: str, fields: dict[str, Any]) -> Any:
        arguments = {
            "member_id": self.ids.get(name, ""),
            "generation": self.generations.get(name, -1),
            "instance_id": self.instances.get(name),
            **fields,
        }
        error: LogstoreError | None = None
        try:
            check(**arguments, now_ms=self.now_ms)
        except LogstoreError as raised:
            error = raised
        if error is None or isinstance(error, RebalanceInProgress):
            self.heard_ms[arguments["member_id"]] = self.now_ms
        self.log.append((who, type(error)))
        return error

    def _schedule(self, time_ms: int | None) -> None:
        if time_ms is not None:
            self.scheduled_ms = min(time_ms, self.scheduled_ms or time_ms)

    def _settle(self, outcome: Outcome) -> None:
        if outcome.to_store is None:
            self._give(outcome)
        elif self.holds_stores:
            self._held.append(outcome)
        else:
            self._give(outcome, self.group.stored(self._store(outcome.to_store), self.now_ms))

    def _store(self, value: GroupMetadataValue) -> LogstoreError | None:
        if self.store_error is None:
            self.stored.append(value)
        return self.store_error

    def _give(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self._schedule(outcome.due_ms)
            for reply, answer in outcome.replies:
                reply(answer)
        assert all(outcome.to_store is None for outcome in outcomes[1:])


# ------------------------------------------------------------------------------------------------------ common groups


def stable(*names: str, instances: tuple[str, ...] = (), **settings: Any) -> GroupDriver:
    """A Stable group of generation 1 at 1,000 ms: ``names``, of which the first leads; ``instances`` are static."""
    driver = completing(*names, instances=instances, **settings)
    for name in names:
        driver.sync(name)
    assert driver.state is GroupState.STABLE
    assert all(isinstance(ask.answers[-1], JoinReply | SyncReply) for ask in driver.asks[-2 * len(names) :])
    return driver


def completing(*names: str, instances: tuple[str, ...] = (), **settings: Any) -> GroupDriver:
    """All have joined and none has synced; the clock is back where it was, with every session as long as ever."""
    driver = GroupDriver(
        group_initial_rebalance_delay_ms=settings.pop("group_initial_rebalance_delay_ms", 1), **settings
    )
    driver.now_ms = 999
    driver.instances.update({name: f"instance of {name}" for name in instances})
    for name in names:
        driver.join(name)
    driver.now_ms = 1_000
    driver.tick()
    if driver.state is GroupState.PREPARING_REBALANCE:  # the delay was extended, as more than one came
        driver.now_ms = 1_001
        driver.tick()
    assert driver.state is GroupState.COMPLETING_REBALANCE
    assert driver.leader == names[0]
    return driver
