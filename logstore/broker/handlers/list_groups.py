"""ListGroups: all groups, or those in some states, or of some types."""

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import group_error_code
from logstore.errors import LogstoreError
from logstore.wire.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse


def handle(broker: Broker, request: ListGroupsRequest, context: RequestContext) -> ListGroupsResponse:
    states = {state.lower() for state in request.states_filter}
    types = {name.lower() for name in request.types_filter}
    try:
        groups = broker.groups.summaries()
    except LogstoreError as error:
        return ListGroupsResponse(error_code=group_error_code(error))
    return ListGroupsResponse(
        groups=[
            ListedGroup(
                group_id=group.group, protocol_type=group.protocol_type, group_state=group.state, group_type=group.kind
            )
            for group in groups
            if (not states or group.state.lower() in states) and (not types or group.kind in types)
        ]
    )
