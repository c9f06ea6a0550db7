r"""Files of Java's properties format, such as meta.properties, and the content of the marker of a clean shutdown.

::

    # a comment; ! starts one too                    meta.properties        .kafka_cleanshutdown
    key=value                                        version=1              {"version":0,"brokerEpoch":-1}
    key : a value that goes on \                     cluster.id=...
        on the next line                             node.id=1

Escapes are \t \n \r \f \uXXXX, and a backslash before any other character stands for that character. Written is ASCII,
which every reader takes alike; read is UTF-8, which is what Kafka writes. A later line wins over an earlier one.

Nothing is checksummed. A file that is empty, holds a NUL, or does not end with a line feed was cut: it raises
CorruptCheckpoint, whose reason names the line.
"""

import json
import re
from collections.abc import Iterator, Mapping

from logstore.errors import CorruptCheckpoint

_BLANKS = " \t\f"
_LINE_END = re.compile(r"\r\n|\r|\n")
_KEY = re.compile(r"(?:[^\\=: \t\f]|\\.)*", re.DOTALL)
_SEPARATOR = re.compile(r"[ \t\f]*[=:]?[ \t\f]*")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_TO_BE_ESCAPED = re.compile(r"[\\=:#!]|[^ -~]")
_LETTERS = {"\t": "t", "\n": "n", "\r": "r", "\f": "f"}
_CONTROLS = {letter: control for control, letter in _LETTERS.items()}


def encode_properties(values: Mapping[str, str], comment: str = "") -> bytes:
    """One line a value, after the comment, if there is one."""
    lines = [f"#{_escaped(comment)}\n"] if comment else []
    for key, value in values.items():
        # Any blank would end a key, but only those before a value would be skipped.
        key_text = _escaped(key).replace(" ", "\\ ")
        value_text = _escaped(value)
        lines.append(f"{key_text}=\\{value_text}\n" if value.startswith(" ") else f"{key_text}={value_text}\n")
    return "".join(lines).encode()


def decode_properties(data: bytes) -> dict[str, str]:
    """Values by key, in the order of the file. Raises CorruptCheckpoint."""
    values = {}
    for number, line in _logical_lines(_checked_text(data)):
        key = _KEY.match(line)
        assert key is not None  # it matches nothing as well
        separator = _SEPARATOR.match(line, key.end())
        assert separator is not None
        try:
            values[_unescaped(key[0])] = _unescaped(line[separator.end() :])
        except ValueError as error:
            raise CorruptCheckpoint(f"line {number}: {error}") from error
    return values


def encode_clean_shutdown(broker_epoch: int = -1) -> bytes:
    """The marker's content; -1 stands for a process outside a cluster."""
    return json.dumps({"version": 0, "brokerEpoch": broker_epoch}, separators=(",", ":")).encode()


def decode_clean_shutdown(data: bytes) -> int:
    """The broker epoch. Raises CorruptCheckpoint, also for the empty marker that Kafka left before 3.7.

    That the marker is there says that the shutdown was clean; its content adds the epoch, and nothing rests on it.
    """
    try:
        content = json.loads(data)
        broker_epoch = content["brokerEpoch"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptCheckpoint(f"line 1: no clean shutdown marker: {error}") from error
    if type(broker_epoch) is not int or not -(2**63) <= broker_epoch < 2**63:
        raise CorruptCheckpoint("line 1: the broker epoch is no 64-bit number")
    return broker_epoch


def _escaped(text: str) -> str:
    return _TO_BE_ESCAPED.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in _LETTERS:
        return f"\\{_LETTERS[character]}"
    if " " <= character <= "~":
        return f"\\{character}"
    units = character.encode("utf-16-be", "surrogatepass")  # Java's strings are UTF-16: two units past 0xffff
    return "".join(f"\\u{units[at : at + 2].hex().upper()}" for at in range(0, len(units), 2))


def _unescaped(text: str) -> str:
    """``text`` without its escapes. Raises ValueError."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(_unescape, text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # joins pairs of surrogates


def _unescape(match: re.Match[str]) -> str:
    escape = match[1]
    if len(escape) == 5:
        return chr(int(escape[1:], 16))
    if escape == "u":
        raise ValueError("\\u without four hexadecimal digits")
    return _CONTROLS.get(escape, escape)


def _checked_text(data: bytes) -> str:
    if not data:
        raise CorruptCheckpoint("line 1: the file is empty")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise CorruptCheckpoint(f"line {_line_number(data, error.start)}: not UTF-8", error.start) from error
    nul = data.find(b"\0")
    if nul >= 0:
        raise CorruptCheckpoint(f"line {_line_number(data, nul)}: a NUL", nul)
    if not data.endswith((b"\n", b"\r")):
        raise CorruptCheckpoint(f"line {_line_number(data, len(data))}: the file ends within the line", len(data))
    return text


def _line_number(data: bytes, position: int) -> int:
    return len(_LINE_END.findall(data[:position].decode(errors="replace"))) + 1


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line that is no comment and not blank, together with those that continue it; and its number, from 1."""
    joined: list[str] = []
    start = 0
    for number, line in enumerate(_LINE_END.split(text), start=1):
        stripped = line.lstrip(_BLANKS)
        if not joined:
            if not stripped or stripped[0] in "#!":
                continue
            start = number
        backslashes = len(stripped) - len(stripped.rstrip("\\"))
        if backslashes % 2:  # the last one does not stand after another: it escapes the line's end
            joined.append(stripped[:-1])
        else:
            yield start, "".join((*joined, stripped))
            joined.clear()
