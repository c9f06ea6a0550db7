from collections.abc import Callable
from typing import Any


def decoder(message: type, version: int) -> Callable[[memoryview, int], Any]: ...  # type: ignore[empty-body]
def encoder(message: type, version: int) -> Callable[[Any], bytes]: ...  # type: ignore[empty-body]
