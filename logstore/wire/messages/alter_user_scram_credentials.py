"""SCRAM credentials of users are set or removed."""

from collections.abc import Sequence

from logstore.format.record import Buffer
from logstore.wire.schema import Message, field, message, struct


@struct
class ScramCredentialDeletion:
    name: str = field("string")
    mechanism: int = field("int8")


@struct
class ScramCredentialUpsertion:
    name: str = field("string")
    mechanism: int = field("int8")
    iterations: int = field("int32")
    salt: Buffer = field("bytes")
    salted_password: Buffer = field("bytes")


@message(api_key=51, versions=(0, 0), flexible_since=0)
class AlterUserScramCredentialsRequest(Message):
    deletions: Sequence[ScramCredentialDeletion] = field([ScramCredentialDeletion])
    upsertions: Sequence[ScramCredentialUpsertion] = field([ScramCredentialUpsertion])


@struct
class AlterUserScramCredentialsResult:
    user: str = field("string")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)


@message(api_key=51, versions=(0, 0), flexible_since=0)
class AlterUserScramCredentialsResponse(Message):
    throttle_time_ms: int = field("int32")
    results: Sequence[AlterUserScramCredentialsResult] = field([AlterUserScramCredentialsResult])
