"""Members that do whatever they like, in any order, with a disk that may fail: what holds after each step."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from group_driver import OTHER, RANGE, REBALANCE_MS, SESSION_MS, GroupDriver
from logstore.errors import FencedInstance, IllegalGeneration, InvalidRecord, UnknownMember
from logstore.groups.group import GroupState
from logstore.groups.member import NEW_MEMBER_JOIN_TIMEOUT_MS
from logstore.groups.requests import JoinReply, SyncReply

STATIC = ("s", "t")
NAMES = st.sampled_from(("a", "b", "c", "d", *STATIC))
PROTOCOLS = st.sampled_from((RANGE, RANGE, OTHER, (*RANGE, ("sticky", b"")), (("sticky", b""), *OTHER)))
REFUSALS = (UnknownMember, IllegalGeneration, FencedInstance)


class Members(RuleBasedStateMachine):
    @initialize(delay_ms=st.sampled_from((0, 3_000)), limit=st.sampled_from((1_000, 1_000, 3)))
    def begin(self, delay_ms: int, limit: int) -> None:
        self.driver = GroupDriver(group_initial_rebalance_delay_ms=delay_ms, group_max_size=limit)
        self.driver.instances.update({name: f"instance of {name}" for name in STATIC})
        self.limit = limit
        self.generation = 0

    # ------------------------------------------------------------------------------------------------------- requests

    @rule(name=NAMES, protocols=PROTOCOLS, is_anew=st.booleans(), is_told=st.booleans())
    def join(self, name: str, protocols: Any, is_anew: bool, is_told: bool) -> None:
        member_id = "" if is_anew else self.driver.ids.get(name, "")
        self.driver.join(name, protocols, member_id=member_id, requires_known_member_id=is_told)

    @rule(name=NAMES)
    def sync(self, name: str) -> None:
        self.driver.sync(name)

    @rule(name=NAMES)
    def do_the_next_thing(self, name: str) -> None:
        """As clients do that know what they want."""
        self._next_thing(name)

    @rule(
        names=st.sampled_from((("a", "b", "s"), ("c", "b", "a", "t", "s", "d"))), delay_ms=st.sampled_from((0, 6_000))
    )
    def agree(self, names: tuple[str, ...], delay_ms: int) -> None:
        """Without this, few generations would ever become Stable."""
        for _ in range(5):
            for name in names:
                self._next_thing(name)
            self.driver.pass_ms(delay_ms)

    @rule(name=st.sampled_from(STATIC), protocols=PROTOCOLS)
    def come_back(self, name: str, protocols: Any) -> None:
        self.driver.join(name, protocols, member_id="")

    def _next_thing(self, name: str) -> None:
        asked = [ask for ask in self.driver.asks if ask.who.startswith(name)]
        if asked and not asked[-1].answers:
            return
        answer = asked[-1].answer if asked else None
        if isinstance(answer, JoinReply):
            self.driver.sync(name)
        elif isinstance(answer, SyncReply):
            if self.driver.heartbeat(name) is not None:
                self.driver.join(name)
        else:
            self.join(name, RANGE, isinstance(answer, UnknownMember | FencedInstance), False)

    @rule(name=NAMES, is_commit=st.booleans(), age=st.integers(0, 2))
    def heartbeat_or_commit(self, name: str, is_commit: bool, age: int) -> None:
        generation = self.driver.generations.get(name, 0) - age
        before = self.driver.group.members.get(self.driver.ids.get(name, ""))
        error = (self.driver.commit if is_commit else self.driver.heartbeat)(name, generation=generation)
        if before is None or generation != self.driver.group.generation:
            is_free = is_commit and self.driver.state is GroupState.EMPTY and generation < 0
            assert is_free if error is None else isinstance(error, REFUSALS)
        else:
            assert not isinstance(error, REFUSALS)

    @rule(names=st.lists(NAMES, min_size=1, max_size=3, unique=True))
    def leave(self, names: list[str]) -> None:
        member_ids = [self.driver.ids.get(name, name) for name in names]
        for member_id, error in zip(member_ids, self.driver.leave(*names), strict=True):
            assert error is not None or member_id not in self.driver.group.members

    # ------------------------------------------------------------------------------------------------ time and the disk

    @rule(time_ms=st.sampled_from((1, 1_000, 3_000, SESSION_MS - 1, SESSION_MS, REBALANCE_MS)))
    def pass_time(self, time_ms: int) -> None:
        self.driver.pass_ms(time_ms)

    @rule()
    def oversleep(self) -> None:
        """The tick comes late, when many things are due at once."""
        self.driver.now_ms += 2 * REBALANCE_MS
        self.driver.tick()

    @rule(is_slow=st.booleans(), is_broken=st.booleans())
    def change_the_disk(self, is_slow: bool, is_broken: bool) -> None:
        self.driver.holds_stores = is_slow
        self.driver.store_error = InvalidRecord("it is too large") if is_broken else None

    @precondition(lambda self: self.driver.held_count)
    @rule(is_broken=st.booleans())
    def end_a_store(self, is_broken: bool) -> None:
        self.driver.release(InvalidRecord("it is too large") if is_broken else None)
        for member in self.driver.group.members:  # a static one may have come back from being replaced
            if is_broken and member.is_static:
                self.driver.heard_ms[member.member_id] = self.driver.now_ms

    # ------------------------------------------------------------------------------------------------------ invariants

    @invariant()
    def no_reply_is_lost_and_nothing_hangs(self) -> None:
        self.driver.check()

    @invariant()
    def the_generation_never_falls(self) -> None:
        assert self.driver.group.generation >= self.generation
        self.generation = self.driver.group.generation

    @invariant()
    def what_members_are_told_agrees(self) -> None:
        for ask in self.driver.asks:
            for answer in ask.answers:
                if isinstance(answer, JoinReply):
                    ids = [member.member_id for member in answer.members]
                    assert bool(ids) == (answer.leader == answer.member_id)
                    assert not ids or (answer.member_id in ids and len(ids) == len(set(ids)))
                    assert sum(member.instance_id is None for member in answer.members) <= self.limit
                    assert answer.generation <= self.driver.group.generation
        if self.driver.state is GroupState.STABLE:
            for name, member_id in self.driver.ids.items():
                member = self.driver.group.members.get(member_id)
                if member is not None and not member.is_static:
                    assert self.driver.generations[name] == self.driver.group.generation

    @invariant()
    def each_gets_what_the_leader_gave_it(self) -> None:
        for ask in self.driver.asks:
            name = ask.who.split(".")[0]
            for answer in ask.answers:
                if isinstance(answer, SyncReply) and name not in STATIC:
                    assert answer.assignment.decode().startswith(f"{name}-")

    @invariant()
    def nobody_stays_past_its_session(self) -> None:
        for member in self.driver.group.members:
            is_waiting = member.join_reply is not None or member.sync_reply is not None
            limit_ms = NEW_MEMBER_JOIN_TIMEOUT_MS if member.is_new else SESSION_MS
            if member.is_new or not is_waiting:
                end_ms = member.session_end_ms
                assert self.driver.now_ms < end_ms
                assert member.is_new or end_ms <= self.driver.heard_ms[member.member_id] + limit_ms

    @invariant()
    def the_disk_has_what_is_stable(self) -> None:
        if self.driver.state is GroupState.STABLE and not self.driver.held_count and self.driver.stored:
            stored = self.driver.stored[-1]
            assert stored.generation == self.driver.group.generation

    def teardown(self) -> None:
        if not hasattr(self, "driver"):
            return
        self.driver.holds_stores, self.driver.store_error = False, None
        while self.driver.held_count:
            self.driver.release()
        self.driver.pass_ms(NEW_MEMBER_JOIN_TIMEOUT_MS + 3 * REBALANCE_MS)
        assert self.driver.state is GroupState.EMPTY and not self.driver.waiting()
        assert self.driver.group.next_deadline_ms is None
        self.driver.kill()
        self.driver.check()


TestMembers = Members.TestCase
TestMembers.settings = settings(max_examples=200, stateful_step_count=40)
