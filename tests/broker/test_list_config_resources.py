"""What has settings, over the wire. What is said of ``admin`` holds for Kafka too."""

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.list_config_resources import ListConfigResourcesRequest
from wire_admin import WireAdmin

TOPIC, BROKER, CLIENT_METRICS, GROUP = 2, 4, 16, 32


def listed(admin: WireAdmin, *kinds: int, version: int = 1) -> set[tuple[int, str]]:
    response = admin.ask(ListConfigResourcesRequest(resource_types=kinds), version)
    assert response.error_code == ErrorCode.NONE
    return {(resource.resource_type, resource.resource_name) for resource in response.config_resources}


def test_topics_and_the_broker_have_settings(admin: WireAdmin) -> None:
    name, broker = admin.topic(), (BROKER, str(admin.node_id))
    assert {(TOPIC, name), broker} <= listed(admin)
    assert listed(admin, BROKER) == {broker}
    topics = listed(admin, TOPIC)
    assert (TOPIC, name) in topics and broker not in topics


@pytest.mark.parametrize("version", range(2))
def test_metrics_of_clients_have_none(admin: WireAdmin, version: int) -> None:
    assert listed(admin, *([CLIENT_METRICS] if version else []), version=version) == set()


def test_groups_without_settings_of_their_own_are_not_told(admin: WireAdmin) -> None:
    assert listed(admin, GROUP) == set()


def test_a_kind_that_there_is_not_is_refused(admin: WireAdmin) -> None:
    response = admin.ask(ListConfigResourcesRequest(resource_types=[77]), 1)
    assert (response.error_code, response.config_resources) == (ErrorCode.UNSUPPORTED_VERSION, ())
