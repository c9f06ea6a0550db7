"""All groups that a broker looks after, or those in some states and of some types."""

from collections.abc import Sequence

from logstore.wire.schema import Message, field, message, struct


@message(api_key=16, versions=(0, 5), flexible_since=3)
class ListGroupsRequest(Message):
    states_filter: Sequence[str] = field(["string"], since=4)
    types_filter: Sequence[str] = field(["string"], since=5)


@struct
class ListedGroup:
    group_id: str = field("string")
    protocol_type: str = field("string")
    group_state: str = field("string", since=4)
    group_type: str = field("string", since=5)


@message(api_key=16, versions=(0, 5), flexible_since=3)
class ListGroupsResponse(Message):
    throttle_time_ms: int = field("int32", since=1)
    error_code: int = field("int16")
    groups: Sequence[ListedGroup] = field([ListedGroup])
