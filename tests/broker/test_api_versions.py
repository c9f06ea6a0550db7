"""ApiVersions over the wire: what is advertised is what there is."""

from collections.abc import Iterator

import pytest

from logstore.broker.dispatch import HANDLERS
from logstore.wire.api import APIS
from logstore.wire.messages.api_versions import ApiVersionsRequest
from loop_broker import LoopBroker, loop_broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopBroker]:
    with loop_broker(tmp_path_factory.mktemp("versions") / "data") as broker:
        yield broker


@pytest.mark.parametrize("version", range(5))
def test_every_api_that_is_handled_is_told_with_its_versions(broker: LoopBroker, version: int) -> None:
    request = ApiVersionsRequest(client_software_name="a client", client_software_version="1.0")
    response = broker.ask(request, version)
    assert response.error_code == 0
    told = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
    assert told == {key: api.advertised for key, api in APIS.items() if key in HANDLERS}


def test_the_table_holds_no_api_without_a_handler() -> None:
    assert set(APIS) <= set(HANDLERS)
