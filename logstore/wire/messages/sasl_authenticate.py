"""One step of a SASL exchange, either way: its bytes are the mechanism's own."""

from logstore.format.record import Buffer
from logstore.wire.schema import Message, field, message


@message(api_key=36, versions=(0, 2), flexible_since=2)
class SaslAuthenticateRequest(Message):
    auth_bytes: Buffer = field("bytes")


@message(api_key=36, versions=(0, 2), flexible_since=2)
class SaslAuthenticateResponse(Message):
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    auth_bytes: Buffer = field("bytes")
    session_lifetime_ms: int = field("int64", since=1)
