"""Functions for one version of a message, made from its declaration: straight-line Python, so that no field costs more
than its own bytes do.

Fields of fixed size that follow one another, with the size or count that ends them, are one ``struct`` call; structs in
arrays are loops in place. What a version lacks is not in its code.
"""

import struct
from collections.abc import Callable
from typing import Any

from logstore.errors import MalformedMessage
from logstore.wire import primitives
from logstore.wire.decoder import Decoder
from logstore.wire.encoder import Encoder

_NAMES: dict[str, Any] = {**vars(primitives), "new": object.__new__, "struct_error": struct.error}


def decoder(message: Any, version: int) -> Callable[[memoryview, int, int, bool], Any]:
    """(view, position, how many elements there may be, whether more bytes may follow) -> a message of ``version``.
    Raises MalformedMessage, and nothing else, for its bytes."""
    source = Decoder(version, message.is_flexible(version), {**_NAMES, "MalformedMessage": MalformedMessage})
    with source.block("def decode(view, p, budget, may_go_on):"):
        source.line("end = len(view)")
        with source.block("try:"):
            source.struct(message, "message")
        with source.block("except (struct_error, IndexError):"):
            source.line("raise cut_short(p) from None")
        with source.block("except UnicodeDecodeError:"):
            source.line("raise bad_text(p) from None")
        with source.block("if p > end or (p < end and not may_go_on):"):
            source.line("raise bad_end(p, end)")
        source.line("return message")
    return source.finish("decode", f"{message.__name__} v{version} decode")


def encoder(message: Any, version: int) -> Callable[[Any], bytes]:
    source = Encoder(version, message.is_flexible(version), _NAMES)
    with source.block("def encode(message):"):
        source.line("pieces = []")
        source.struct(message, "message")
        source.flush()
        source.line('return b"".join(pieces)')
    return source.finish("encode", f"{message.__name__} v{version} encode")
