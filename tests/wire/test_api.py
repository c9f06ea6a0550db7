import pytest
from kafka.protocol.broker_version_data import infer_broker_version_from_api_versions

from logstore.wire.api import APIS, Api, ApiKey, is_flexible
from logstore.wire.messages.api_versions import ApiVersionsRequest


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.key.name)
def test_what_is_advertised_can_be_decoded(api: Api) -> None:
    first, last = api.request.versions
    assert api.key == api.request.api_key == api.response.api_key
    assert (api.request.__name__, api.response.__name__) == (f"{name(api)}Request", f"{name(api)}Response")
    assert (first <= api.advertised[0] or api.key == ApiKey.PRODUCE) and api.advertised[1] <= last


def name(api: Api) -> str:
    return "".join(map(str.capitalize, api.key.name.split("_")))


def test_produce_is_advertised_from_0_on_for_librdkafka_and_decoded_from_3() -> None:
    assert APIS[ApiKey.PRODUCE].advertised[0] == 0
    assert APIS[ApiKey.PRODUCE].request.versions[0] == 3


def test_nothing_is_advertised_that_is_not_built() -> None:
    transactions = range(ApiKey.ADD_PARTITIONS_TO_TXN, ApiKey.TXN_OFFSET_COMMIT + 1)
    acls = range(ApiKey.DESCRIBE_ACLS, ApiKey.DELETE_ACLS + 1)
    sasl = (ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE)
    assert not APIS.keys() & {*transactions, *acls, *sasl, *range(76, 93)}


def test_clients_take_the_broker_for_one_of_kafka_3_9() -> None:
    assert infer_broker_version_from_api_versions({key: api.advertised for key, api in APIS.items()}) == (3, 9)


def test_versions_are_flexible_from_the_one_on_that_the_request_says() -> None:
    first = ApiVersionsRequest.flexible_since
    assert first == 3
    assert [is_flexible(ApiKey.API_VERSIONS, version) for version in (2, 3, 99)] == [False, True, True]
    assert not is_flexible(ApiKey.OFFSET_DELETE, 0)
    with pytest.raises(KeyError):
        is_flexible(ApiKey.VOTE, 0)
