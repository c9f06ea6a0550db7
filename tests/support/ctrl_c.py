"""A Ctrl-C at each of the places where one can come, one after the other.

The interpreter runs signal handlers when a function begins, when a loop goes back, and when a call has returned.
"""

import dis
import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FrameType
from typing import Any

_TRACED = ("/logstore/", "/contextlib.py", "/threading.py")
_CALLS = ("CALL", "CALL_FUNCTION_EX", "CALL_KW")


class CtrlC:
    """Comes at the place of this number, in ``run``."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.place = ""  # where it came; empty: the call had fewer places
        self.error: KeyboardInterrupt | None = None  # with all the frames that it has come through
        self._left = number

    def run(self, action: Callable[[], object]) -> None:
        sys.settrace(self._trace)
        try:
            try:
                action()
            finally:
                sys.settrace(None)
        except KeyboardInterrupt as error:
            self.error = error

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if self.place or not any(part in frame.f_code.co_filename for part in _TRACED):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and frame.f_lasti in _places(frame.f_code):
            self._left -= 1
            if self._left == 0:
                self.place = f"{frame.f_code.co_filename}:{frame.f_lineno} (place {self.number})"
                raise KeyboardInterrupt
        return self._trace


def everywhere(step: int = 1, first: int = 1) -> Iterator[CtrlC]:
    """One for every ``step``th place; the last one does not come."""
    number, came = first, True
    while came:
        interrupt = CtrlC(number)
        yield interrupt
        came = bool(interrupt.place)
        number += step


@cache
def _places(code: CodeType) -> frozenset[int]:
    places, before = set(), ""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("RESUME", "JUMP_BACKWARD") or before in _CALLS:
            places.add(instruction.offset)
        if instruction.opname != "CACHE":
            before = instruction.opname
    return frozenset(places)
