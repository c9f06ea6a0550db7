"""InitProducerId over the wire."""

from pathlib import Path

import pytest

from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.init_producer_id import InitProducerIdRequest
from loop_broker import loop_broker

ASK = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)


def test_each_producer_gets_an_id_that_nobody_had_also_after_a_restart(tmp_path: Path) -> None:
    given = []
    for _ in range(2):
        with loop_broker(tmp_path / "data") as broker:
            for version in range(6):
                response = broker.ask(ASK, version)
                assert (response.error_code, response.producer_epoch) == (0, 0)
                given.append(response.producer_id)
    assert len(set(given)) == 12


def test_one_that_has_an_id_gets_another(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data") as broker:
        first = broker.ask(ASK, 4).producer_id
        again = InitProducerIdRequest(transactional_id=None, producer_id=first, producer_epoch=3)
        assert broker.ask(again, 4).producer_id != first


def test_many_clients_that_ask_at_once_get_different_ones(tmp_path: Path) -> None:
    with loop_broker(tmp_path / "data") as broker:
        clients = [broker.client() for _ in range(20)]
        for client in clients:
            client.send(ASK, 2)
        assert len({client.receive().producer_id for client in clients}) == 20
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("transactional_id", "code"),
    [("t", ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED), ("", ErrorCode.INVALID_REQUEST)],
)
def test_transactions_are_refused(tmp_path: Path, transactional_id: str, code: ErrorCode) -> None:
    with loop_broker(tmp_path / "data") as broker:
        response = broker.ask(InitProducerIdRequest(transactional_id=transactional_id), 2)
        assert (response.error_code, response.producer_id) == (code, -1)
