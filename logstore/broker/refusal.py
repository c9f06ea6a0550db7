"""Why a client's request for one thing is not done: what the handlers of administration share.

Such a request names many topics or resources; each has its own error in the response, and the others are done.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from logstore.errors import LogstoreError
from logstore.wire.error_codes import ErrorCode, error_code

logger = logging.getLogger("logstore.broker")

_MESSAGE_LENGTH_MAX = 1_000  # a name in it may be as long as a request, and a response has no room for it

_Result = TypeVar("_Result")


class Refusal(NamedTuple):
    """``message`` is for people; None where there is nothing to say."""

    code: ErrorCode
    message: str | None = None


class Refused(Exception):
    """What cannot be done for a reason that only Kafka's protocol has: raised by a handler, and caught there."""

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        super().__init__(code, message)
        self.refusal = Refusal(code, None if message is None else told(message))


def told(message: object) -> str:
    """What a client is told, of an error or a text."""
    text = str(message)
    return text if len(text) <= _MESSAGE_LENGTH_MAX else f"{text[:_MESSAGE_LENGTH_MAX]}..."


def attempt(what: str, do: Callable[[], _Result]) -> _Result | Refusal:
    """What ``do`` returns, or why it could not. ``what`` is for the log, of a failure that nobody foresaw."""
    try:
        return do()
    except Refused as refused:
        return refused.refusal
    except LogstoreError as error:
        return Refusal(error_code(error), told(error))
    except Exception:
        logger.exception("%s failed", what)
        return Refusal(ErrorCode.UNKNOWN_SERVER_ERROR, "an error of the broker; its log says more")


def outcome(what: str, do: Callable[[], None]) -> Refusal:
    """``attempt`` where there is nothing to return: NONE when it is done."""
    return attempt(what, do) or Refusal(ErrorCode.NONE)


def repeated(names: Iterable[object]) -> set[object]:
    """The names that are there more than once."""
    return {name for name, count in Counter(names).items() if count > 1}
