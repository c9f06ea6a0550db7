"""How sure an append is, and the group commit that makes being sure cheap."""

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from threading import Lock

from logstore.errors import InvalidArgument, LogstoreError


class Durability(StrEnum):
    """What an acknowledged append survives. A receipt says which level was reached."""

    OS = "os"  # in the page cache: the end of this process, also by SIGKILL
    FSYNC = "fsync"  # on the disk: the end of power
    REPLICATED = "replicated"  # with a cluster, on all in-sync replicas: the end of one; no level of a directory

    @classmethod
    def parse(cls, level: object) -> "Durability":
        """The level of this name that an append to a directory may ask for. Raises InvalidArgument."""
        for known in LOCAL_LEVELS:
            if level == known:
                return known
        raise InvalidArgument("durability", level, f"it is one of {', '.join(LOCAL_LEVELS)}")


LOCAL_LEVELS = (Durability.OS, Durability.FSYNC)

_PATIENCE_S = 1.0  # after that a follower sees to it that somebody leads


class _Follower:
    """A thread that waits for the leader's sync, or to lead the next one itself."""

    __slots__ = ("error", "leads", "offset", "turn")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.leads = False
        self.error: BaseException | None = None
        self.turn = Lock()
        self.turn.acquire()


class GroupCommit:
    """Many threads wait until their appends are on the disk; one sync serves all who came before it.

    The first to come leads: it syncs, wakes all whom that covered, each by a lock of its own, and hands the lead to
    one who came later. A plain lock instead would let one thread have it again and again, a sync for each append.

    A Ctrl-C may end a leader anywhere, also before it leads, or before it has woken the others: so who has waited long,
    while nobody syncs, looks after itself.
    """

    def __init__(self, sync: Callable[[], int], synced_offset: int) -> None:
        """``sync`` makes everything appended so far durable, and returns the end offset that this covered."""
        self._sync = sync
        self.synced_offset = synced_offset
        self._mutex = Lock()
        self._syncing = Lock()
        self._has_leader = False
        self._followers: deque[_Follower] = deque()

    def wait(self, end_offset: int) -> None:
        """Return once everything below ``end_offset`` is on the disk. Raises what ``sync`` raised."""
        if self.synced_offset >= end_offset:
            return
        with self._mutex:
            if self.synced_offset >= end_offset:
                return
            follower = _Follower(end_offset) if self._has_leader else None
            if follower:
                self._followers.append(follower)
            self._has_leader = True
        if follower is not None and not self._await_turn(follower):
            return
        self._lead()

    def _await_turn(self, follower: _Follower) -> bool:
        """Whether it is for this thread to lead; False: it has been served. Raises what the leader's sync raised."""
        try:
            while not follower.turn.acquire(timeout=_PATIENCE_S):
                if self.synced_offset >= follower.offset:
                    return False
                if self._takes_over(follower):
                    return True
        except BaseException:  # a Ctrl-C: let nobody wait for a lead that is not taken
            with self._mutex:
                if follower in self._followers:
                    self._followers.remove(follower)
            if follower.leads:
                self._lead()
            raise
        if follower.error is not None:
            raise follower.error
        return follower.leads

    def _takes_over(self, follower: _Follower) -> bool:
        """Whether the lead was let fall, and is this follower's now."""
        with self._mutex:
            if self._syncing.locked():
                return False
            if follower in self._followers:
                self._followers.remove(follower)
            follower.leads = self._has_leader = True
            return True

    def _lead(self) -> None:
        error: BaseException | None = None
        synced_offset = 0
        try:
            with self._syncing:
                synced_offset = self._sync()
        except BaseException as raised:  # noqa: BLE001  # raised again below
            error = raised
        # What stopped this thread only, a Ctrl-C, is not the others' concern: the next of them leads.
        shared = error if isinstance(error, LogstoreError) else None
        with self._mutex:
            self.synced_offset = max(self.synced_offset, synced_offset)
            if not self._followers and error is None:
                self._has_leader = False
                return
            waiting, self._followers = self._followers, deque()
            served = [follower for follower in waiting if shared or follower.offset <= self.synced_offset]
            later = [follower for follower in waiting if not shared and follower.offset > self.synced_offset]
            self._followers.extend(later[1:])
            self._has_leader = bool(later)
            if later:
                later[0].leads = True
        for follower in served:
            follower.error = shared
            follower.turn.release()
        if later:
            later[0].turn.release()
        if error is not None:
            raise error
