"""A client names the SASL mechanism that it is going to use. Its versions have no flexible encoding."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message


@message(api_key=17, versions=(0, 1))
class SaslHandshakeRequest(Message):
    mechanism: str = field("string")


@message(api_key=17, versions=(0, 1))
class SaslHandshakeResponse(Message):
    error_code: int = field("int16")
    mechanisms: Sequence[str] = field(["string"])
