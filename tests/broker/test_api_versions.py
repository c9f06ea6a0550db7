"""ApiVersions over the wire: what is advertised is what there is."""

from collections.abc import Iterator

import pytest

from logstore.broker.dispatch import HANDLERS
from logstore.wire.api import APIS
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.api_versions import ApiVersionsRequest
from loop_broker import LoopBroker, loop_broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopBroker]:
    with loop_broker(tmp_path_factory.mktemp("versions") / "data") as broker:
        yield broker


@pytest.mark.parametrize("version", range(5))
def test_every_api_that_is_handled_is_told_with_its_versions(broker: LoopBroker, version: int) -> None:
    request = ApiVersionsRequest(client_software_name="a-client", client_software_version="1.0")
    response = broker.ask(request, version)
    assert response.error_code == 0
    told = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
    assert told == {key: api.advertised for key, api in APIS.items() if key in HANDLERS}


@pytest.mark.parametrize(
    ("name", "software_version"), [("a client", "1"), ("c", ""), ("-c", "1"), ("c", "1."), ("ö", "1")]
)
def test_a_software_that_is_not_named_as_kafka_wants_is_refused(
    broker: LoopBroker, name: str, software_version: str
) -> None:
    request = ApiVersionsRequest(client_software_name=name, client_software_version=software_version)
    response = broker.ask(request, 3)
    assert (response.error_code, response.api_keys) == (ErrorCode.INVALID_REQUEST, ())
    assert broker.ask(request, 2).error_code == 0


def test_the_table_holds_no_api_without_a_handler() -> None:
    assert set(APIS) <= set(HANDLERS)
