"""dump, verify, stats and reindex: on what Apache Kafka wrote, on our own directories, and on damaged ones."""

import json
from pathlib import Path
from typing import Any

import pytest

import logstore
from cli import run, spawn
from kafka_golden import GOLDEN, GoldenPartition, golden_groups, golden_partitions
from logstore.format.compression import Compression
from logstore.storage.survey import Kind


def rows(*args: object, status: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*args, "--json", status=status).stdout.splitlines()]


def of_type(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in found if row["type"] == kind]


def decoded(row: dict[str, Any], name: str) -> bytes | None:
    import base64

    if row[name] is None:
        return None
    return base64.b64decode(row[name]) if row.get(f"{name}_encoding") == "base64" else row[name].encode()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A partition of a few segments, with indexes: 40 batches of 10 records."""
    path = tmp_path / "data"
    with logstore.open(path) as store:
        store.create_topic("t", segment_bytes=9000, index_interval_bytes=200)
        for number in range(40):
            values = [b"record %03d " % (number * 10 + at) * 8 for at in range(10)]
            store.log("t").append(values, timestamps_ms=1_700_000_000_000 + number * 1000)
    assert len(list((path / "t_0").glob("*.log"))) > 3
    return path


# ------------------------------------------------------------------------------------------------- Kafka's directories


@pytest.mark.parametrize("directory", ["data", "live"])
def test_everything_that_kafka_wrote_is_whole(directory: str) -> None:
    found = rows("verify", GOLDEN / directory)
    assert [row for row in found if row["type"] == "finding" and row["severity"] == "damage"] == []
    assert found[-1]["records"] > 500


@pytest.mark.parametrize("partition", golden_partitions(), ids=lambda partition: partition.directory.name)
def test_the_dump_of_kafkas_logs_is_what_its_consumer_read(partition: GoldenPartition) -> None:
    dumped = of_type(rows("dump", partition.directory, "--records"), "record")
    seen = [row for row in dumped if not row.get("is_control") and row["offset"] >= partition.log_start_offset]
    assert [row["offset"] for row in seen] == [record.offset for record in partition.records]
    for row, record in zip(seen, partition.records, strict=True):
        assert row["timestamp_ms"] == record.timestamp_ms
        assert decoded(row, "key") == record.key
        assert decoded(row, "value") == record.value
        assert [(header["key"], decoded(header, "value")) for header in row["headers"]] == record.headers


@pytest.mark.parametrize("partition", golden_partitions(), ids=lambda partition: partition.directory.name)
def test_kafkas_directories_are_consumed_in_place(partition: GoldenPartition) -> None:
    args = ("--data", GOLDEN / "data", "--partition", partition.partition)
    seen = rows("consume", partition.topic, *args)
    expected = [record for record in partition.records if record.offset >= partition.log_start_offset]
    assert [decoded(row, "value") for row in seen] == [record.value for record in expected]


def test_kafkas_offsets_topic_is_decoded_by_itself() -> None:
    committed: dict[str, dict[tuple[str, int], tuple[int, str]]] = {}
    for row in of_type(rows("dump", GOLDEN / "data" / "__consumer_offsets-0", "--records"), "record"):
        key, value = row["decoded_key"], row["decoded_value"]
        if "topic" in key:
            group = committed.setdefault(key["group"], {})
            group.pop((key["topic"], key["partition"]), None)
            if value is not None:
                group[key["topic"], key["partition"]] = value["offset"], value["metadata"]
    assert {name: group for name, group in committed.items() if group} == golden_groups()


def test_every_kind_of_file_is_dumped_and_said_what_it_is() -> None:
    kinds = {row["kind"] for row in of_type(rows("dump", GOLDEN / "data"), "file")}
    assert kinds == set(Kind) - {Kind.GAPS}
    text = run("dump", GOLDEN / "data", "--records").stdout
    for said in (
        "ABORT coordinator epoch",
        'group "billing" gzip 0: offset 12',
        "deletes from",
        "cluster.id=",
        "topic id",
    ):
        assert said in text
    assert "DAMAGE" not in text


def test_old_message_formats_are_refused_by_name() -> None:
    for version in ("v0", "v1"):
        result = run("dump", GOLDEN / "legacy" / f"{version}_none-0", status=1)
        assert f"message format {version}" in result.stdout
        refused = run("salvage", GOLDEN / "legacy" / f"{version}_none-0", status=1)
        assert f"message format {version}" in refused.stderr


def test_what_the_dump_says_of_a_batch_is_all_that_kafkas_tool_says() -> None:
    batch = of_type(rows("dump", GOLDEN / "data" / "idempotent-0"), "batch")[1]
    assert set(batch) == {
        "type", "base_offset", "last_offset", "count", "base_sequence", "last_sequence", "producer_id",
        "producer_epoch", "partition_leader_epoch", "is_transactional", "is_control", "delete_horizon_ms", "position",
        "timestamp_type", "max_timestamp_ms", "size", "magic", "codec", "crc", "is_valid",
    }  # fmt: skip
    assert batch["producer_id"] >= 0
    assert batch["last_sequence"] - batch["base_sequence"] == batch["count"] - 1


# ---------------------------------------------------------------------------------------------------------------- dump


def test_from_and_to_bound_batches_records_and_index_entries(data: Path) -> None:
    found = rows("dump", data / "t_0", "--records", "--from", 95, "--to", 104)
    assert [row["offset"] for row in of_type(found, "record")] == list(range(95, 105))
    assert [row["base_offset"] for row in of_type(found, "batch")] == [90, 100]
    assert all(95 <= row["offset"] <= 104 for row in of_type(found, "entry"))


def test_a_partition_can_be_named_as_it_stands_in_the_data_directory(data: Path) -> None:
    assert rows("dump", "t_0", "--data", data) == rows("dump", data / "t_0")
    assert rows("verify", "--data", data)[-1]["records"] == 400


def test_text_with_control_characters_cannot_reach_the_terminal(tmp_path: Path) -> None:
    run("produce", "t", "--data", tmp_path, stdin=b"\x1b[31mred\x9b\xc2\x9b\n\xc2\x9b31m\n\x07\n")
    output = run("dump", "--records", "--data", tmp_path).stdout
    assert not any((ord(character) < 32 and character != "\n") or 127 <= ord(character) < 160 for character in output)


# -------------------------------------------------------------------------------------------------------------- verify


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x40
    path.write_bytes(content)


def logs(data: Path) -> list[Path]:
    return sorted((data / "t_0").glob("*.log"))


def findings(data: Path) -> list[dict[str, Any]]:
    return [row for row in rows("verify", data, status=1) if row["type"] == "finding" and row["severity"] == "damage"]


def test_a_flipped_bit_anywhere_in_a_log_is_found(data: Path) -> None:
    path = logs(data)[1]
    content = path.read_bytes()
    for position in [*range(61), *range(61, len(content), 97)]:
        if 12 <= position < 16:
            continue  # the leader epoch: no checksum covers it, so that a log can set it
        flip(path, position)
        assert findings(data)[0]["path"] in (str(path), str(path.with_suffix(".index"))), position
        path.write_bytes(content)


def test_every_wrong_index_entry_is_found(data: Path) -> None:
    for suffix in (".index", ".timeindex"):
        path = logs(data)[1].with_suffix(suffix)
        content = path.read_bytes()
        for position in range(len(content)):
            flip(path, position)
            found = findings(data)
            assert found, (suffix, position)
            assert {row["path"] for row in found} == {str(path)}
            path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("recovery-point-offset-checkpoint", b"0\n1\nt 0 9999\n", "its log ends at 400"),
        ("log-start-offset-checkpoint", b"0\n1\nt 0 401\n", "log start offset 401"),
        ("recovery-point-offset-checkpoint", b"\0\0", "line 1"),
        ("meta.properties", b"", "empty"),
        ("t_0/leader-epoch-checkpoint", b"0\n2\n0 0\n", "count"),
        ("t_0/partition.metadata", b"version: 0\n", "topic_id"),
        ("t_0/offset-gap-checkpoint", b"0\n1\n5 2\n", "ends before it starts"),
        (f"t_0/{400:020}.snapshot", b"\0\1garbage garbage", "CRC"),
        (f"t_0/{0:020}.txnindex", b"abc", "3 bytes"),
        (f"t_0/{0:020}.timeindex", b"abcd", "4 bytes"),
        ("topics/t/topic.properties", b"\\u12\n", "line 1"),
    ],
)
def test_a_damaged_small_file_is_found_and_named(data: Path, name: str, content: bytes, said: str) -> None:
    (data / name).write_bytes(content)
    found = findings(data)
    assert any(row["path"] == str(data / name) and said in row["reason"] for row in found), found


def test_a_missing_index_and_an_index_without_a_log_are_found(data: Path) -> None:
    first, second = logs(data)[:2]
    first.with_suffix(".index").unlink()
    assert [row["path"] for row in findings(data)] == [str(first.with_suffix(".index"))]
    second.unlink()
    notes = [row for row in rows("verify", data, status=1) if row.get("severity") == "note"]
    assert {row["path"] for row in notes if "no log" in row["reason"]} == {
        str(second.with_suffix(".index")),
        str(second.with_suffix(".timeindex")),
    }


def test_segments_that_overlap_are_found(data: Path) -> None:
    path = logs(data)[1]
    base = int(path.stem)
    logs(data)[0].write_bytes(logs(data)[0].read_bytes() + path.read_bytes())
    assert any("the one before it ends" in row["reason"] and row["path"] == str(path) for row in findings(data)), base


def test_a_torn_tail_is_damage_and_zeros_behind_the_end_are_not(data: Path) -> None:
    path = logs(data)[-1]
    content = path.read_bytes()
    path.write_bytes(content + bytes(5000))
    found = rows("verify", data)
    assert [row["severity"] for row in found[:-1]] == ["note"]
    path.write_bytes(content + content[:100])
    assert [row["position"] for row in findings(data)] == [len(content)]


def test_an_index_alone_is_held_against_the_log_beside_it(data: Path) -> None:
    path = logs(data)[1].with_suffix(".index")
    run("verify", path)
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    assert "the entry of offset" in run("verify", path, status=1).stdout


def test_verify_beside_a_live_writer_finds_nothing(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t", segment_bytes=20_000, index_interval_bytes=300)
        for _ in range(300):
            store.log("t").append([b"x" * 100] * 3)
        result = spawn("verify", "--data", tmp_path)
        assert (result.returncode, result.stderr) == (0, b"")


# ------------------------------------------------------------------------------------------------------------- reindex


def test_reindex_makes_the_same_indexes_again(data: Path) -> None:
    indexes = sorted((data / "t_0").glob("*index"))
    before = {path: path.read_bytes() for path in indexes}
    for path in indexes:
        path.write_bytes(b"\xff" * 40)
    run("reindex", data, "--index-interval", 200)
    run("verify", data)
    assert {path: path.read_bytes() for path in indexes} == before


def test_reindex_goes_around_damage_and_reports_it(data: Path) -> None:
    path = logs(data)[1]
    flip(path, 100)
    result = run("reindex", path, status=1)
    assert "DAMAGE at position 0" in result.stdout


def test_nothing_is_changed_while_a_process_has_the_directory_open(data: Path) -> None:
    before = {path: path.read_bytes() for path in sorted((data / "t_0").iterdir())}
    with logstore.open(data):
        for name in ("salvage", "reindex"):
            extra = ["--write"] if name == "salvage" else []
            for path in (data, data / "t_0"):
                result = spawn(name, path, *extra)
                assert result.returncode == 2, result
                assert b"is open in another process" in result.stderr
        assert {path: path.read_bytes() for path in before} == before


# --------------------------------------------------------------------------------------------------------------- stats


def test_stats_count_what_there_is(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t", 2)
        store.log("t", 0).append([b"a" * 1000] * 10, timestamps_ms=1000, compression=Compression.ZSTD)
        store.log("t", 0).append([b"b"] * 6, timestamps_ms=61_000)
        store.log("t", 1).append([b"c"], timestamps_ms=2000)
    first, second, total = [json.loads(line) for line in run("stats", "--data", tmp_path, "--json").stdout.splitlines()]
    assert (first["name"], first["records"], first["batches"], first["first_offset"]) == ("t_0", 16, 2, 0)
    assert (first["first_timestamp_ms"], first["last_timestamp_ms"]) == (1000, 61_000)
    assert first["codecs"]["zstd"]["ratio"] > 50
    assert first["codecs"]["none"]["ratio"] == 1
    assert (second["records"], total["records"], total["segments"]) == (1, 17, 2)
    assert total["rates"] == [
        {"from_ms": 1000, "records": 10},
        {"from_ms": 2000, "records": 1},
        {"from_ms": 61_000, "records": 6},
    ]
    assert total["log_size"] == sum(path.stat().st_size for path in tmp_path.glob("*/*.log"))
    assert "Batches by their size" in run("stats", "--data", tmp_path).stdout


def test_stats_count_damage_and_pass_over_it(data: Path) -> None:
    flip(logs(data)[1], 100)
    *_, total = [json.loads(line) for line in run("stats", data, "--json", status=1).stdout.splitlines()]
    assert (total["damaged_ranges"], total["records"]) == (1, 390)


def test_the_picture_is_drawn(data: Path, tmp_path: Path) -> None:
    run("stats", data, "--plot", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "cannot write" in run("stats", data, "--plot", tmp_path / "none" / "plot.png", status=2).stderr
    assert "--plot" in run("stats", data, "--plot", tmp_path / "plot.nope", status=2).stderr


# ----------------------------------------------------------------------------------------------------------- wrong use


@pytest.mark.parametrize("name", ["dump", "verify", "stats", "salvage", "reindex"])
def test_what_is_no_log_is_an_error_in_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "letter.txt").write_text("hello")
    for path, said in [
        ("missing", "No such file"),
        ("empty", "neither partitions nor segments"),
        ("letter.txt", "name says what it is"),
    ]:
        assert said in run(name, tmp_path / path, status=2).stderr
    assert "neither a file nor a directory" in run(name, "/dev/null", status=2).stderr


_COMMANDS = [
    *(["produce"], ["consume"], ["dump"], ["verify"], ["salvage"], ["reindex"], ["stats"], ["retention", "explain"]),
    *(["topic", "create"], ["topic", "list"], ["topic", "describe"], ["topic", "alter"], ["topic", "delete"]),
]


@pytest.mark.parametrize("name", _COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_and_json_and_data(name: list[str]) -> None:
    text = run(*name, "--help").stdout
    assert "Example" in text
    assert f"logstore {' '.join(name)}" in text
    assert "--json" in text
    assert "LOGSTORE_DATA" in text


def test_unknown_commands_are_answered_with_the_known_ones() -> None:
    assert "dump, verify" in run("frobnicate", status=2).stderr
    assert "dump" in run("--help").stdout


def test_the_first_help_has_an_example_too() -> None:
    text = run("--help").stdout
    assert "Example:\n" in text
    assert "logstore produce" in text


@pytest.mark.parametrize("name", ["dump", "verify", "stats", "salvage", "reindex"])
def test_a_directory_that_only_looks_as_if_it_had_partitions_is_an_error_that_names_it(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "etc" / "dbus-1").mkdir(parents=True)
    (tmp_path / "etc" / "dbus-1" / "session.conf").write_text("x")
    said = run(name, tmp_path / "etc", status=2).stderr
    assert f"{tmp_path / 'etc'} is not" in said
    assert "neither partitions nor segments" in said


@pytest.mark.parametrize("kind", ["index", "timeindex", "log", "snapshot"])
@pytest.mark.parametrize("place", [".", "topics/c"])
def test_a_segments_file_where_none_belongs_hides_nothing(data: Path, place: str, kind: str) -> None:
    (data / place).mkdir(exist_ok=True)
    (data / place / f"{0:020}.{kind}").write_bytes(b"")
    assert rows("verify", data, status=int(kind == "snapshot"))[-1]["records"] == 400
    assert len(of_type(rows("dump", data, status=int(kind == "snapshot")), "batch")) == 40


@pytest.mark.parametrize("lost", ["logs", "directory"])
def test_a_log_that_is_gone_altogether_is_damage_of_its_checkpoint(data: Path, lost: str) -> None:
    for path in sorted((data / "t_0").iterdir()):
        if lost == "directory" or path.suffix in (".log", ".index", ".timeindex"):
            path.unlink()
    if lost == "directory":
        (data / "t_0").rmdir()
    found = [row for row in rows("verify", data, status=1) if row.get("severity") == "damage"]
    assert [row["path"] for row in found] == [str(data / "recovery-point-offset-checkpoint")]
    assert found[0]["reason"] == "t_0 has the recovery point 400, but it has no log"
    assert (found[0]["first_offset"], found[0]["last_offset"]) == (0, 399)
