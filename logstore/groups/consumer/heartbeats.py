"""What a heartbeat of a consumer group's member must say, and what it changes of the member. Pure."""

from logstore.errors import InvalidArgument, UnsupportedAssignor
from logstore.format.group_records import MemberMetadata
from logstore.groups.consumer.targets import TARGET_ASSIGNORS
from logstore.groups.consumer.topic_pattern import topic_pattern
from logstore.groups.requests import (
    JOINING_EPOCH,
    NO_REBALANCE_TIMEOUT_MS,
    STATIC_LEAVING_EPOCH,
    ConsumerHeartbeat,
)


def check_heartbeat(request: ConsumerHeartbeat) -> None:
    """Raises InvalidArgument, UnsupportedAssignor, InvalidTopicPattern."""
    if not request.member_id:
        raise InvalidArgument("member_id", "", "a member makes itself an id")
    for name, text in (("instance_id", request.instance_id), ("rack_id", request.rack_id)):
        if text == "":
            raise InvalidArgument(name, text, "it is left out, or says something")
    if request.epoch < STATIC_LEAVING_EPOCH:
        raise InvalidArgument("member_epoch", request.epoch, "there is no such epoch")
    if request.epoch == STATIC_LEAVING_EPOCH and request.instance_id is None:
        raise InvalidArgument("instance_id", None, "only a static member can leave for a while")
    if request.epoch == JOINING_EPOCH:
        _check_joining(request)
    if request.assignor is not None and request.assignor not in TARGET_ASSIGNORS:
        raise UnsupportedAssignor(request.group, request.assignor, ", ".join(TARGET_ASSIGNORS))
    if request.regex:
        topic_pattern(request.regex)


def _check_joining(request: ConsumerHeartbeat) -> None:
    if request.rebalance_timeout_ms == NO_REBALANCE_TIMEOUT_MS:
        raise InvalidArgument("rebalance_timeout_ms", None, "a member that joins says it")
    if request.owned is None or request.owned:
        raise InvalidArgument("topic_partitions", request.owned, "a member that joins holds none, and says so")
    if request.topics is None and request.regex is None:
        raise InvalidArgument("subscribed_topic_names", None, "a member that joins says what it reads")


def says_all(request: ConsumerHeartbeat) -> bool:
    """Whether the member says everything of itself, as it does when it may have missed an answer."""
    says_topics = request.topics is not None or request.regex is not None
    is_whole = request.rebalance_timeout_ms != NO_REBALANCE_TIMEOUT_MS and says_topics and request.owned is not None
    return request.epoch == JOINING_EPOCH or is_whole


def updated(before: MemberMetadata, request: ConsumerHeartbeat) -> MemberMetadata:
    """What the request leaves out is as before."""
    says_timeout = request.rebalance_timeout_ms != NO_REBALANCE_TIMEOUT_MS
    return MemberMetadata(
        instance_id=before.instance_id if request.instance_id is None else request.instance_id,
        rack_id=before.rack_id if request.rack_id is None else request.rack_id,
        client_id=request.client_id,
        client_host=request.client_host,
        topics=before.topics if request.topics is None else tuple(sorted(set(request.topics))),
        regex=before.regex if request.regex is None else request.regex or None,
        rebalance_timeout_ms=request.rebalance_timeout_ms if says_timeout else before.rebalance_timeout_ms,
        assignor=before.assignor if request.assignor is None else request.assignor,
    )
