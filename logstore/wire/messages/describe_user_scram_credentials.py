"""Which SCRAM credentials users have, without the secrets."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@struct
class UserName:
    name: str = field("string")


@message(api_key=50, versions=(0, 0), flexible_since=0)
class DescribeUserScramCredentialsRequest(Message):
    users: Sequence[UserName] | None = field([UserName], nullable_since=0)


@struct
class CredentialInfo:
    mechanism: int = field("int8")
    iterations: int = field("int32")


@struct
class DescribeUserScramCredentialsResult:
    user: str = field("string")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    credential_infos: Sequence[CredentialInfo] = field([CredentialInfo])


@message(api_key=50, versions=(0, 0), flexible_since=0)
class DescribeUserScramCredentialsResponse(Message):
    throttle_time_ms: int = field("int32")
    error_code: int = field("int16")
    error_message: str | None = field("string", nullable_since=0)
    results: Sequence[DescribeUserScramCredentialsResult] = field([DescribeUserScramCredentialsResult])
