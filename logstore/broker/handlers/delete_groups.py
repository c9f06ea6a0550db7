"""DeleteGroups: groups without members are forgotten, with all that they have committed."""

from collections.abc import Iterable

from logstore.broker.broker import Broker
from logstore.broker.context import RequestContext
from logstore.broker.group_calls import group_error_code
from logstore.errors import InvalidGroupId, LogstoreError
from logstore.groups.coordinator import GroupCoordinator
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.delete_groups import DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse


async def handle(broker: Broker, request: DeleteGroupsRequest, context: RequestContext) -> DeleteGroupsResponse:
    names = dict.fromkeys(request.groups_names)
    return DeleteGroupsResponse(results=await broker.run(_delete, broker.groups, names))


def _delete(groups: GroupCoordinator, names: Iterable[str]) -> list[DeletableGroupResult]:
    """Each is on the disk when this returns."""
    results = []
    for name in names:
        code = ErrorCode.NONE
        try:
            groups.delete(name)
        except InvalidGroupId:
            code = ErrorCode.GROUP_ID_NOT_FOUND
        except LogstoreError as error:
            code = group_error_code(error)
        results.append(DeletableGroupResult(group_id=name, error_code=code))
    return results
