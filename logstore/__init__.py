"""A Kafka-format log that you can import: durable topics on disk, in any Python process.

``logstore.open("data")`` gives a Store; see the README. Every error is a LogstoreError. All names stand in ``api``;
it is imported when the first of it is asked for, and so are ``logstore.aio``, for asyncio, and ``logstore.testing``.
"""

import importlib
from typing import TYPE_CHECKING, Any

_MODULES = ("aio", "testing")

if TYPE_CHECKING:
    from logstore import aio as aio
    from logstore import testing as testing
    from logstore.api import *  # noqa: F403
    from logstore.errors import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"logstore.{name}")
        api = importlib.import_module("logstore.api")
        if name == "__all__":
            return [*api.__all__, *_MODULES]
        if name not in api.__all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals().update({each: getattr(api, each) for each in api.__all__})
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *importlib.import_module("logstore.api").__all__, *_MODULES})
