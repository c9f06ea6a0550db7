"""What is on the disk, over the wire. What is said of ``admin`` holds for Kafka too."""

import os
from pathlib import Path
from typing import Any

import pytest

from kafka_brokers import fresh_name
from logstore.wire.error_codes import ErrorCode
from logstore.wire.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from wire_admin import OwnBroker, WireAdmin, new_topic


def describe(admin: WireAdmin, wanted: dict[str, list[int]] | None, version: int = 4) -> Any:
    topics = None if wanted is None else [DescribableLogDirTopic(*item) for item in wanted.items()]
    response = admin.ask(DescribeLogDirsRequest(topics=topics), version)
    assert response.error_code == ErrorCode.NONE
    (directory,) = response.results
    assert directory.error_code == ErrorCode.NONE
    return directory


def sizes(directory: Any) -> dict[tuple[str, int], int]:
    return {
        (topic.name, one.partition_index): one.partition_size for topic in directory.topics for one in topic.partitions
    }


@pytest.mark.parametrize("version", range(1, 5))
def test_partitions_have_the_sizes_of_their_logs(admin: WireAdmin, version: int) -> None:
    name = admin.topic(3)
    admin.produce(name, 10, 1)
    while len(found := sizes(directory := describe(admin, {name: [0, 1]}, version))) < 2:
        pass  # a topic may be answered before all of it is on the disk
    assert found.keys() == {(name, 0), (name, 1)}
    assert found[name, 0] == 0 < found[name, 1]
    assert {(one.offset_lag, one.is_future_key) for topic in directory.topics for one in topic.partitions} == {
        (0, False)
    }
    assert sizes(describe(admin, None, version)).items() >= found.items()
    assert os.path.isabs(directory.log_dir)
    if version >= 4:
        assert 0 < directory.usable_bytes <= directory.total_bytes


def test_of_what_is_not_there_nothing_is_told(admin: WireAdmin) -> None:
    name = admin.topic(1)
    assert sizes(describe(admin, {name: [7], fresh_name("missing"): [0]})) == {}


def test_the_directory_is_the_one_that_is_served(own: OwnBroker, tmp_path: Path) -> None:
    own.create(new_topic("t"))
    own.produce("t", 100)
    directory = describe(own, None)
    assert directory.log_dir == str(tmp_path / "data")
    assert sizes(directory) == {("t", 0): (tmp_path / "data" / "t_0" / f"{0:020}.log").stat().st_size}
