"""Kafka's own command-line tools: what an operator types works here too."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from kafka_brokers import MakeTopic, Start, fresh_name
from kafka_clients.java_tools import (
    API_VERSIONS,
    CONFIGS,
    CONSOLE_CONSUMER,
    CONSOLE_PRODUCER,
    CONSUMER_PERFORMANCE,
    DELETE_RECORDS,
    GROUPS,
    LOG_DIRS,
    OFFSETS,
    PRODUCER_PERFORMANCE,
    TOPICS,
    VERIFIABLE_CONSUMER,
    VERIFIABLE_PRODUCER,
    java_command,
    run_tool,
)
from kafka_clients.records import Sent


@pytest.fixture
def at(broker_address: str) -> tuple[str, str]:
    return "--bootstrap-server", broker_address


def test_lines_go_from_the_console_producer_to_the_console_consumer(at: tuple[str, str], topic: MakeTopic) -> None:
    name = topic(1)
    lines = "one:1\ntwo:2\nümlaut:3\n"
    keyed = ("--property", "parse.key=true", "--property", "key.separator=:")
    run_tool(CONSOLE_PRODUCER, *at, "--topic", name, *keyed, stdin=lines)
    shown = ("--property", "print.key=true", "--property", "key.separator=:")
    read = ("--from-beginning", "--max-messages", "3", "--timeout-ms", "30000")
    assert run_tool(CONSOLE_CONSUMER, *at, "--topic", name, *read, *shown) == lines


@pytest.mark.slow
def test_topics_are_made_described_changed_and_deleted(at: tuple[str, str]) -> None:
    name = fresh_name()
    made = ("--create", "--topic", name, "--partitions", "3", "--config", "retention.ms=7200000")
    assert f"Created topic {name}." in run_tool(TOPICS, *at, *made)
    assert name in run_tool(TOPICS, *at, "--list").splitlines()
    described = run_tool(TOPICS, *at, "--describe", "--topic", name)
    assert "PartitionCount: 3" in described and "retention.ms=7200000" in described
    assert len(re.findall(r"Leader: 1|Leader: 0", described)) == 3
    run_tool(TOPICS, *at, "--alter", "--topic", name, "--partitions", "4")
    entity = ("--entity-type", "topics", "--entity-name", name)
    run_tool(CONFIGS, *at, *entity, "--alter", "--add-config", "max.message.bytes=54321")
    assert "max.message.bytes=54321" in run_tool(CONFIGS, *at, *entity, "--describe")
    run_tool(CONFIGS, *at, *entity, "--alter", "--delete-config", "max.message.bytes")
    assert "max.message.bytes" not in run_tool(CONFIGS, *at, *entity, "--describe")
    assert "PartitionCount: 4" in run_tool(TOPICS, *at, "--describe", "--topic", name)
    run_tool(TOPICS, *at, "--delete", "--topic", name)
    assert name not in run_tool(TOPICS, *at, "--list").splitlines()


@pytest.mark.slow
def test_groups_are_listed_described_reset_and_deleted(at: tuple[str, str], agents: Start, topic: MakeTopic) -> None:
    name, group = topic(1), fresh_name("group")
    agents("confluent").produce([Sent(name, 0, b"%d" % number) for number in range(10)])
    run_tool(CONSOLE_CONSUMER, *at, "--topic", name, "--group", group, "--from-beginning", "--max-messages", "10")
    assert group in run_tool(GROUPS, *at, "--list").split()
    row = run_tool(GROUPS, *at, "--describe", "--group", group).split(name)[1].split()
    assert row[:4] == ["0", "10", "10", "0"]  # partition, committed, end, lag
    reset = ("--reset-offsets", "--to-offset", "4", "--topic", name, "--execute")
    run_tool(GROUPS, *at, "--group", group, *reset)
    assert agents("confluent").call("committed", group=group, topic=name, partitions=1) == [4]
    assert "Empty" in run_tool(GROUPS, *at, "--describe", "--group", group, "--state")
    run_tool(GROUPS, *at, "--delete-offsets", "--group", group, "--topic", name)
    assert agents("confluent").call("committed", group=group, topic=name, partitions=1) == [-1]
    run_tool(GROUPS, *at, "--delete", "--group", group)
    assert group not in run_tool(GROUPS, *at, "--list").split()


@pytest.mark.slow
def test_offsets_are_shown_and_records_deleted(
    at: tuple[str, str], agents: Start, topic: MakeTopic, tmp_path: Path
) -> None:
    name = topic(1)
    agents("confluent").produce([Sent(name, 0, b"%d" % number) for number in range(10)])
    assert run_tool(OFFSETS, *at, "--topic", name).strip() == f"{name}:0:10"
    wanted = tmp_path / "wanted.json"
    wanted.write_text(json.dumps({"partitions": [{"topic": name, "partition": 0, "offset": 3}], "version": 1}))
    assert "low_watermark: 3" in run_tool(DELETE_RECORDS, *at, "--offset-json-file", str(wanted))
    assert run_tool(OFFSETS, *at, "--topic", name, "--time", "earliest").strip() == f"{name}:0:3"
    described = run_tool(LOG_DIRS, *at, "--describe", "--topic-list", name)
    assert f'"partition":"{name}-0"' in described and '"error":null' in described


def test_the_apis_are_those_of_a_release_that_the_java_client_knows(at: tuple[str, str]) -> None:
    listed = run_tool(API_VERSIONS, *at)
    for api in ("Produce(0)", "Fetch(1)", "OffsetCommit(8)", "JoinGroup(11)", "ApiVersions(18)", "CreateTopics(19)"):
        assert re.search(rf"{re.escape(api)}: .*\[usable: \d+\]", listed), api


@pytest.mark.slow
def test_the_performance_tools_come_to_their_end(at: tuple[str, str], broker_address: str, topic: MakeTopic) -> None:
    name = topic(2)
    load = ("--num-records", "20000", "--record-size", "200", "--throughput", "-1")
    settings = ("--producer-props", f"bootstrap.servers={broker_address}", "compression.type=lz4")
    assert "20000 records sent" in run_tool(PRODUCER_PERFORMANCE, "--topic", name, *load, *settings)
    read = run_tool(CONSUMER_PERFORMANCE, *at, "--topic", name, "--messages", "20000", "--timeout", "30000")
    count = int(read.splitlines()[1].split(", ")[4])
    assert count >= 20_000


@pytest.mark.slow
def test_the_verifiable_producer_and_consumer_agree(at: tuple[str, str], topic: MakeTopic) -> None:
    name = topic(2)
    sent = _events(run_tool(VERIFIABLE_PRODUCER, *at, "--topic", name, "--max-messages", "1000"))
    assert [event["acked"] for event in sent if event["name"] == "tool_data"] == [1000]
    command = java_command(
        VERIFIABLE_CONSUMER, *at, "--topic", name, "--group-id", fresh_name("group"), "--max-messages", "1000"
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    read = _events(done.stdout)
    assert sum(event["count"] for event in read if event["name"] == "records_consumed") == 1000
    assert all(event["success"] for event in read if event["name"] == "offsets_committed")


def _events(printed: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
