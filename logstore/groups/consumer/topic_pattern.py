"""Regular expressions for topics' names, matched in a time that is linear in the name, whatever the expression.

A member of a consumer group may send any expression, and it is matched in the thread that serves all clients; so this
does what RE2 does, by which Kafka matches them: the states that the expression may be in are followed all at once, and
what cannot be matched so (look-around, back-references) is refused. A name matches as a whole. What has been found of
the states is kept, so that thousands of names take little more than their characters; an expression that takes very
many steps all the same, as none in earnest does, finds no more names, and the log says so.

::

    alternatives    sequence ( "|" sequence )*
    sequence        ( atom ( "*" | "+" | "?" | "{n}" | "{n,}" | "{n,m}" ) "?"? )*
    atom            character | "." | [class] | \\d \\D \\w \\W \\s \\S | \\ punctuation
                    | ( alternatives ) | (?: alternatives ) | "^" and "$", which hold at the ends
"""

import logging
from collections.abc import Iterable
from functools import lru_cache
from threading import Lock

from logstore.errors import InvalidTopicPattern

logger = logging.getLogger("logstore.groups")

_STATES_MAX = 10_000
_STEPS_MAX = 1_000_000  # some 100 ms
_KEPT_STATES_MAX = 20_000
_REPEAT_MAX = 1_000
_DEPTH_MAX = 100
_CHARACTER_MAX = 0x7F
_CHARACTERS = frozenset(map(chr, range(_CHARACTER_MAX + 1)))  # topics' names are made of some of these
_DIGITS = frozenset("0123456789")
_WORD = frozenset(c for c in _CHARACTERS if c.isalnum()) | {"_"}
_SPACES = frozenset("\t\n\f\r ")
_CLASSES = {
    "d": _DIGITS,
    "D": _CHARACTERS - _DIGITS,
    "w": _WORD,
    "W": _CHARACTERS - _WORD,
    "s": _SPACES,
    "S": _CHARACTERS - _SPACES,
}
_START, _END = "^", "$"

# What leads from a state to others: by a character of a set, or without one, at an end of the name or anywhere.
_Step = tuple[frozenset[str] | str | None, int]


class _Together:
    """The states that an expression may be in at once, and those that each character leads to, where that is known."""

    __slots__ = ("accepts", "following", "states")

    def __init__(self, states: frozenset[int], accepts: bool) -> None:
        self.states = states
        self.accepts = accepts  # a name that ends here
        self.following: dict[str, _Together] = {}


class _TooManySteps(Exception):
    pass


class TopicPattern:
    """Raises InvalidTopicPattern. Safe to use from many threads."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._steps: list[list[_Step]] = []
        parser = _Parser(pattern, self._steps)
        self._first, self._last = parser.parse()
        self._lock = Lock()
        self._steps_left = 0
        self._forget()

    def _forget(self) -> None:
        self._kept: dict[frozenset[int], _Together] = {}
        self._kept_count = 0
        self._start: _Together | None = None

    def matches(self, name: str) -> bool:
        return name in self.matching([name])

    def matching(self, names: Iterable[str]) -> frozenset[str]:
        """Those of ``names`` that match."""
        found = set()
        with self._lock:
            self._steps_left = _STEPS_MAX
            try:
                for name in names:
                    if self._matches(name):
                        found.add(name)
            except _TooManySteps:
                logger.warning("%.100r takes too many steps: it finds %d topics, no more", self._pattern, len(found))
        return frozenset(found)

    def _matches(self, name: str) -> bool:
        at = self._start
        if at is None:
            at = self._start = self._together([self._first], is_start=True)
        for character in name:
            following = at.following.get(character)
            if following is None:
                following = self._follow(at, character)
            if not following.states:
                return False
            at = following
        return at.accepts

    def _follow(self, at: _Together, character: str) -> _Together:
        if self._kept_count > _KEPT_STATES_MAX:
            self._forget()
        after = [
            target
            for state in at.states
            for by, target in self._steps[state]
            if isinstance(by, frozenset) and character in by
        ]
        self._take_steps(len(at.states))
        found = self._together(after, is_start=False)
        kept = at.following[character] = self._kept.setdefault(found.states, found)
        if kept is found:
            self._kept_count += 1 + len(found.states)
        return kept

    def _together(self, states: Iterable[int], is_start: bool) -> _Together:
        found = self._closure(states, is_start, is_end=False)
        return _Together(frozenset(found), self._last in self._closure(found, is_start, is_end=True))

    def _closure(self, states: Iterable[int], is_start: bool, is_end: bool) -> set[int]:
        """With all that they lead to without a character."""
        found, waiting = set(states), list(states)
        while waiting:
            for by, target in self._steps[waiting.pop()]:
                leads = by is None or (by == _START and is_start) or (by == _END and is_end)
                if leads and target not in found:
                    found.add(target)
                    waiting.append(target)
        self._take_steps(len(found))
        return found

    def _take_steps(self, count: int) -> None:
        self._steps_left -= count
        if self._steps_left < 0:
            raise _TooManySteps


@lru_cache(maxsize=100)
def topic_pattern(pattern: str) -> TopicPattern:
    """Raises InvalidTopicPattern."""
    return TopicPattern(pattern)


class _Parser:
    """Makes states of an expression, by recursive descent: each part gives its first and its last state."""

    def __init__(self, pattern: str, steps: list[list[_Step]]) -> None:
        self._pattern, self._steps = pattern, steps
        self._position = self._depth = 0

    def parse(self) -> tuple[int, int]:
        part = self._alternatives()
        if self._position < len(self._pattern):
            raise self._error("a ) closes nothing")
        return part

    def _alternatives(self) -> tuple[int, int]:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise self._error("it is nested too deep")
        first, last = self._state(), self._state()
        while True:
            part_first, part_last = self._sequence()
            self._steps[first].append((None, part_first))
            self._steps[part_last].append((None, last))
            if not self._takes("|"):
                break
        self._depth -= 1
        return first, last

    def _sequence(self) -> tuple[int, int]:
        first = last = self._state()
        while self._position < len(self._pattern) and self._pattern[self._position] not in "|)":
            start = self._position
            part = self._atom()
            end = self._position
            low, high = self._repeats()
            part_first, part_last = self._repeated(part, low, high, start, end)
            self._steps[last].append((None, part_first))
            last = part_last
        return first, last

    def _repeats(self) -> tuple[int, int | None]:
        """How often the atom before may come; None: no limit."""
        low, high = 1, None
        if self._takes("*"):
            low, high = 0, None
        elif self._takes("+"):
            low, high = 1, None
        elif self._takes("?"):
            low, high = 0, 1
        elif self._takes("{"):
            low, high = self._counts()
        else:
            return 1, 1
        self._takes("?")  # as few as can be: for a match as a whole it is the same
        if self._position < len(self._pattern) and self._pattern[self._position] in "*+?{":
            raise self._error("a repetition is repeated")
        return low, high

    def _counts(self) -> tuple[int, int | None]:
        end = self._pattern.find("}", self._position)
        low, comma, high = self._pattern[self._position : end].partition(",")
        is_number = all(part.isascii() and part.isdecimal() and len(part) < 5 for part in (low, high or "0"))
        if end < 0 or not is_number:
            raise self._error("a { is not followed by a count")
        self._position = end + 1
        most = int(high) if high else None if comma else int(low)
        if max(int(low), most or 0) > _REPEAT_MAX or (most is not None and most < int(low)):
            raise self._error("a count of repetitions is too high, or below the other")
        return int(low), most

    def _repeated(self, part: tuple[int, int], low: int, high: int | None, start: int, end: int) -> tuple[int, int]:
        """The atom from ``start`` to ``end`` of the pattern, of which ``part`` is the first copy, so many times."""
        if (low, high) == (1, 1):
            return part
        first, last = self._state(), self._state()
        at = copy_first = first
        for index in range(max(low if high is None else high, 1)):
            copy_first, copy_last = part if index == 0 else self._copy(start, end)
            self._steps[at].append((None, copy_first))
            if index >= low:
                self._steps[at].append((None, last))
            at = copy_last
        if high is None:
            self._steps[at].append((None, copy_first))
            if low == 0:
                self._steps[first].append((None, last))
        if high != 0:
            self._steps[at].append((None, last))
        return first, last

    def _copy(self, start: int, end: int) -> tuple[int, int]:
        after, self._position = self._position, start
        part = self._atom()
        assert self._position == end
        self._position = after
        return part

    def _atom(self) -> tuple[int, int]:
        character = self._next()
        if character == "(":
            return self._group()
        by: frozenset[str] | str
        if character in (_START, _END):
            by = character
        elif character == ".":
            by = _CHARACTERS
        elif character == "[":
            by = self._class()
        elif character == "\\":
            by = self._escaped()
        elif character in "*+?{":
            raise self._error(f"there is nothing before the {character} to repeat")
        else:
            by = frozenset(character)
        first, last = self._state(), self._state()
        self._steps[first].append((by, last))
        return first, last

    def _group(self) -> tuple[int, int]:
        if self._takes("?") and not self._takes(":"):
            raise self._error("of what begins with (? only (?: is understood")
        part = self._alternatives()
        if not self._takes(")"):
            raise self._error("a ( is not closed")
        return part

    def _class(self) -> frozenset[str]:
        is_negated = self._takes("^")
        members: set[str] = set()
        is_first = True
        while is_first or not self._takes("]"):
            is_first = False
            low = self._class_member()
            if len(low) == 1 and self._pattern[self._position : self._position + 1] == "-" and self._has_range():
                self._position += 1
                high = self._class_member()
                if len(high) != 1 or min(high) < min(low):
                    raise self._error("a range in [ ] has no such end")
                members.update(map(chr, range(ord(min(low)), min(ord(min(high)), _CHARACTER_MAX) + 1)))
            else:
                members |= low
        return _CHARACTERS - members if is_negated else frozenset(members)

    def _has_range(self) -> bool:
        return self._pattern[self._position + 1 : self._position + 2] not in ("]", "")

    def _class_member(self) -> frozenset[str]:
        character = self._next()
        return self._escaped() if character == "\\" else frozenset(character)

    def _escaped(self) -> frozenset[str]:
        character = self._next()
        if character in _CLASSES:
            return _CLASSES[character]
        if character.isalnum():
            raise self._error(f"\\{character} is not understood")
        return frozenset(character)

    def _next(self) -> str:
        if self._position == len(self._pattern):
            raise self._error("it ends too early")
        self._position += 1
        return self._pattern[self._position - 1]

    def _takes(self, character: str) -> bool:
        is_there = self._pattern[self._position : self._position + 1] == character
        self._position += is_there
        return is_there

    def _state(self) -> int:
        if len(self._steps) >= _STATES_MAX:
            raise self._error("it is too large")
        self._steps.append([])
        return len(self._steps) - 1

    def _error(self, reason: str) -> InvalidTopicPattern:
        return InvalidTopicPattern(self._pattern, f"{reason} (at {self._position})")
