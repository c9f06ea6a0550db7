"""Any bytes at all on the way of a request: an answer, or an error of ours. Without sockets, so there can be many."""

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hostile_requests import VERSIONS, HostileValues, frame_of
from logstore.errors import MalformedMessage
from logstore.wire.api import APIS, ApiKey
from logstore.wire.primitives import REQUEST_ELEMENTS_MAX
from request_driver import Failures, RequestDriver

WAITS = {ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP}
PATIENCE_S = 0.02


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RequestDriver]:
    path = tmp_path_factory.mktemp("fuzz") / "data"
    with Failures() as failures, RequestDriver(path, {"offsets_topic_num_partitions": 1}) as driver:
        driver.store.create_topic("orders", 2)
        yield driver
    assert not failures.found, failures.found[0]


headers = st.builds(
    lambda key, version, correlation_id: key.to_bytes(2) + version.to_bytes(2) + correlation_id,
    st.one_of(st.sampled_from(sorted(APIS)), st.integers(0, 0xFFFF)),
    st.one_of(st.integers(0, 18), st.integers(0, 0xFFFF)),
    st.binary(min_size=4, max_size=4),
)
clients = st.sampled_from([b"\xff\xff", b"\0\1x", b"\0\0", b"\xff\xfe", b"\x7f\xff", b"\0\1\xff"])
bodies = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from([b"\0", b"\1", b"\2", b"\x03", b"\0\0\0\1", b"\xff\xff\xff\xff", b"\x07orders", b"\0\6orders"]),
        max_size=40,
    ).map(b"".join),
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=60), st.builds(lambda *parts: b"".join(parts), headers, clients, bodies)))
@example(b"")
@example(b"\0")
def test_any_bytes_are_answered_or_refused(driver: RequestDriver, frame: bytes) -> None:
    outcome = driver.serve(frame, PATIENCE_S)  # raises what is no error of ours
    if outcome.response is not None:
        assert outcome.response[:4] == frame[4:8]


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(VERSIONS), st.integers(0, 10**6), st.data())
def test_a_well_formed_request_with_some_bytes_changed_is_answered_or_refused(
    driver: RequestDriver, kind: tuple[type, int], seed: int, data: st.DataObject
) -> None:
    declared, version = kind
    frame = bytearray(frame_of(HostileValues(seed).message(declared, version), version))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(8, len(frame) - 1))] = data.draw(st.integers(0, 255))
    driver.serve(bytes(frame), PATIENCE_S)


@pytest.mark.parametrize(
    ("declared", "version"), [kind for kind in VERSIONS if kind[1] == max(v for d, v in VERSIONS if d is kind[0])]
)
def test_a_message_costs_memory_by_its_size(declared: type, version: int) -> None:
    """Whatever its bytes say of counts and sizes."""
    random = b"".join(bytes([octet]) * 3000 for octet in (0, 1, 2, 3, 0x7F, 0x80, 0xFF))
    for start in range(0, len(random), 1500):
        body = random[start:]
        tracemalloc.start()
        try:
            declared.decode_request(body, version)  # type: ignore[attr-defined]
        except MalformedMessage:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < 500 * len(body) + (1 << 20)
    assert REQUEST_ELEMENTS_MAX * 500 < 32 << 20  # at most, of one message
