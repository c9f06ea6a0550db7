"""A server's settings as a Kafka admin writes them."""

from pathlib import Path

import pytest

from cli import ROOT
from logstore.broker.config_file import load_settings
from logstore.broker.server_properties import parse_server_settings
from logstore.config import BrokerConfig, StoreConfig
from logstore.errors import InvalidConfigFile, InvalidSetting

# What Apache Kafka 4.1's own documentation of its broker settings names.
KAFKAS = (ROOT / "tests" / "data" / "kafka-4.1-broker-settings.txt").read_text().split()
OURS = {row.name: row for config in (BrokerConfig, StoreConfig) for row in config.rows()}
NOT_TAKEN = {"authorizer.class.name"}


@pytest.mark.parametrize("name", sorted(set(KAFKAS) - NOT_TAKEN - set(OURS) - {"broker.id", "log.dir", "log.dirs"}))
def test_a_setting_that_means_nothing_here_is_taken_and_told(name: str):
    idle = parse_server_settings({name: "1"}).idle
    assert list(idle.values()) == [[name]]


@pytest.mark.parametrize("name", sorted(set(KAFKAS) & set(OURS)))
def test_a_setting_that_means_something_here_is_taken_and_not_told(name: str):
    default = OURS[name].default
    assert parse_server_settings({name: default}).idle == {}


def test_a_broker_has_kafkas_defaults_where_an_embedded_store_has_others():
    store = parse_server_settings({}).store
    assert (store.offsets_topic_num_partitions, store.group_initial_rebalance_delay_ms) == (50, 3_000)
    store = parse_server_settings({"offsets.topic.num.partitions": "3", "group_initial_rebalance_delay_ms": 0}).store
    assert (store.offsets_topic_num_partitions, store.group_initial_rebalance_delay_ms) == (3, 0)


def test_aliases_are_known_and_give_way():
    assert parse_server_settings({"broker.id": "4"}).broker.node_id == 4
    assert parse_server_settings({"node.id": "5", "broker.id": "4"}).broker.node_id == 5
    assert parse_server_settings({"log.dir": "/a"}).data == Path("/a")
    assert parse_server_settings({"log.dir": "/a", "log.dirs": "/b"}).data == Path("/b")
    assert parse_server_settings({}).data is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"log.dirs": "/a,/b"}, "one directory"),
        ({"log.dirs": " "}, "one directory"),
        ({"authorizer.class.name": "x"}, "no authorizers"),
        ({"port": "9092"}, "use listeners="),
        ({"num.network.thread": "3"}, "did you mean num.network.threads?"),
        ({"zzz": "3"}, "--list-settings"),
        ({"num.partitions": "3", "num_partitions": "4"}, "given twice"),
        ({"listeners": "PLAINTEXT://:9092,OTHER://:9093"}, "one listener for clients, not 2"),
        ({"listeners": "CONTROLLER://:9093", "controller.listener.names": "CONTROLLER"}, "one listener"),
        ({"listeners": "SSL://:9092"}, "only PLAINTEXT is spoken"),
        ({"listeners": "INNER://:9092"}, "INNER is not in listener.security.protocol.map"),
        ({"listeners": "localhost:9092"}, "NAME://HOST:PORT"),
        ({"listeners": "PLAINTEXT://::1:9092"}, "[::1]:9092"),
        ({"advertised.listeners": "PLAINTEXT://:9092"}, "a host and a port"),
        ({"advertised.listeners": "PLAINTEXT://host:0"}, "a host and a port"),
        ({"listener.security.protocol.map": "PLAINTEXT"}, "NAME:PROTOCOL"),
    ],
)
def test_mistakes_are_refused(settings: dict[str, object], reason: str):
    with pytest.raises(InvalidSetting) as caught:
        parse_server_settings(settings)
    assert reason in str(caught.value)


def test_a_listener_may_have_any_name_that_is_mapped_to_plaintext():
    broker = parse_server_settings(
        {
            "listeners": "inner://[::1]:9092,CONTROLLER://:9093",
            "listener.security.protocol.map": "INNER:PLAINTEXT,CONTROLLER:SSL",
            "controller.listener.names": "CONTROLLER",
            "advertised.listeners": "INNER://broker.example:1234",
        }
    ).broker
    assert str(broker.listener.address) == "[::1]:9092"
    assert str(broker.advertised) == "broker.example:1234"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.properties", "# a comment\nlog.retention.hours = 3\nmax.connections: 5\nmax.connections.per.ip=2"),
        ("s.toml", '"log.retention.hours" = 3\nmax_connections = 5\n"max.connections.per.ip" = 2\n'),
        ("s.toml", "max_connections = 5\nmax_connections_per_ip = 2\n[log]\nretention.hours = 3\n"),
        ("s.toml", "log.retention.hours = 3\nmax_connections_per_ip = 2\nmax.connections = 5\n"),
    ],
)
def test_both_kinds_of_files_say_the_same(tmp_path: Path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text)
    settings = load_settings(path, {})
    assert settings.store.overrides()["log.retention.hours"] == "3"
    assert (settings.broker.max_connections, settings.broker.max_connections_per_ip) == (5, 2)
    assert load_settings(path, {"max_connections": "7"}).broker.max_connections == 7


def test_a_file_of_nothing_is_one_of_defaults(tmp_path: Path):
    for name in ("s.properties", "s.toml"):
        path = tmp_path / name
        path.write_text("")
        assert load_settings(path, {}) == parse_server_settings({})


@pytest.mark.parametrize(
    ("name", "data", "line", "reason"),
    [
        ("s.properties", b"node.id=1\nnode.id=x", 2, "must be an integer"),
        ("s.properties", b"a\\u00=1\n", 1, "hexadecimal"),
        ("s.properties", b"node.id=1\n\xff", 2, "not UTF-8"),
        ("s.toml", b"max.connections = 5\nmax.connections.per.ip = 2\n", 2, "quote names"),
        ("s.toml", b"node_id = \n", 1, "Invalid value"),
        ("s.toml", b"node_id = 1\n\xff", 2, "not UTF-8"),
        ("s.toml", b'"listeners" = 5\n', 1, "comma-separated list"),
        ("s.properties", b"#" * (1 << 20) + b"#", 0, "longer than"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path: Path, name: str, data: bytes, line: int, reason: str):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InvalidConfigFile) as caught:
        load_settings(path, {})
    assert reason in caught.value.reason
    assert caught.value.line == line
