"""Lines in, the same lines out: through files, pipes, keys, codecs, templates and live writers."""

import io
import json
import os
import random
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

import logstore
from cli import command, environment, run, spawn
from logstore.cli.produce import _batches
from logstore.client.partitioner import partition_for_key
from logstore.errors import InvalidRecord


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("batch_size", [1, 100, 1 << 18])
def test_lines_come_back_byte_for_byte(tmp_path: Path, codec: str, batch_size: int) -> None:
    source = random.Random(5)
    lines = [source.randbytes(source.randrange(60)).replace(b"\n", b"") for _ in range(200)]
    lines += [b"", b"\r", b"\xff\x00", "größer".encode(), b"x" * 3000]
    text = b"\n".join(lines) + b"\n"
    path = tmp_path / "lines"
    path.write_bytes(text)
    data = tmp_path / "data"
    run("produce", "t", path, "--data", data, "--compression", codec, "--batch-size", batch_size)
    assert run("consume", "t", "--data", data).stdout_bytes == text


def test_a_last_line_without_a_line_feed_is_a_record_too(tmp_path: Path) -> None:
    run("produce", "t", "--data", tmp_path, stdin=b"one\n\ntwo")
    with logstore.open(tmp_path, read_only=True) as store:
        assert [record.value for record in store.log("t").records(0)] == [b"one", b"", b"two"]


def test_nothing_in_is_nothing_stored(tmp_path: Path) -> None:
    summary = json.loads(run("produce", "t", "--data", tmp_path, "--json", stdin=b"").stdout)
    assert summary["records"] == 0
    assert run("consume", "t", "--data", tmp_path).stdout_bytes == b""


def test_short_lines_that_outgrow_a_batch_are_split(tmp_path: Path) -> None:
    run("topic", "create", "t", "--data", tmp_path, "--set", "max.message.bytes=1000")
    text = b"a\n" * 5000
    run("produce", "t", "--data", tmp_path, stdin=text)
    assert run("consume", "t", "--data", tmp_path).stdout_bytes == text


def test_a_line_that_is_too_long_is_named_and_the_lines_before_it_are_stored(tmp_path: Path) -> None:
    run("topic", "create", "t", "--data", tmp_path, "--set", "max.message.bytes=200")
    result = run("produce", "t", "--data", tmp_path, stdin=b"a\nb\n" + b"x" * 500 + b"\nc\n", status=2)
    assert "line 3 is too long" in result.stderr
    assert "max.message.bytes" in result.stderr
    assert run("consume", "t", "--data", tmp_path).stdout_bytes == b"a\nb\n"


def test_keys_go_to_kafkas_partitions(tmp_path: Path) -> None:
    keys = [b"key-%d" % (number % 20) for number in range(100)]
    text = b"".join(b"%s=v=%d\n" % (key, number) for number, key in enumerate(keys))
    run("produce", "t", "--data", tmp_path, "--key-separator", "=", "--partitions", 5, stdin=text)
    with logstore.open(tmp_path, read_only=True) as store:
        for partition in range(5):
            expected = [key for key in keys if partition_for_key(key, 5) == partition]
            records = list(store.log("t", partition).records(0))
            assert [record.key for record in records] == expected
            assert all((record.value or b"").startswith(b"v=") for record in records)


def test_a_line_without_a_key_is_named(tmp_path: Path) -> None:
    result = run("produce", "t", "--data", tmp_path, "--key-separator", ":", stdin=b"a:1\nb:2\nc3\nd:4\n", status=2)
    assert "line 3 has no key" in result.stderr
    assert "2 records are stored" in result.stderr


def test_the_partition_count_of_a_topic_that_is_there_stays_and_that_is_said(tmp_path: Path) -> None:
    assert "created topic t with 3" in run("produce", "t", "--data", tmp_path, "--partitions", 3, stdin=b"a\n").stderr
    assert "has 3 partitions, not 4" in run("produce", "t", "--data", tmp_path, "--partitions", 4, stdin=b"b\n").stderr


def test_a_template_names_every_field(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        store.log("t").append(
            [b"v\xff", None], keys=[b"k", None], headers=[(("h", b"1"), ("n", None)), ()], timestamps_ms=[1000, 2000]
        )
    template = r"{topic} {partition} {offset} {timestamp}\t{key}={value} [{headers}] \{\}\\\n"
    output = run("consume", "t", "--data", tmp_path, "--format", template).stdout_bytes
    assert output == b't 0 0 1000\tk=v\xff [h="1", n=null] {}\\\nt 0 1 2000\t= [] {}\\\n'


@pytest.mark.parametrize("template", ["{nope}", "{", "}", "\\q", "{key"])
def test_a_template_that_makes_no_sense_is_refused(tmp_path: Path, template: str) -> None:
    run("produce", "t", "--data", tmp_path, stdin=b"a\n")
    assert "--format" in run("consume", "t", "--data", tmp_path, "--format", template, status=2).stderr


def test_json_tells_null_text_and_bytes_apart(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        store.log("t").append([b"text", b"\xff\xfe", None, b""], timestamps_ms=7)
    lines = [json.loads(line) for line in run("consume", "t", "--data", tmp_path, "--json").stdout.splitlines()]
    assert [line["value"] for line in lines] == ["text", "//4=", None, ""]
    assert [line.get("value_encoding") for line in lines] == [None, "base64", None, None]
    assert lines[3] | {"offset": 3, "timestamp_ms": 7, "topic": "t", "partition": 0} == lines[3]


@pytest.fixture
def hourly(tmp_path: Path) -> Path:
    """Ten records, an hour apart from 2024-01-01T00:00Z on."""
    with logstore.open(tmp_path) as store:
        store.create_topic("t")
        for number in range(10):
            store.log("t").append([b"%d" % number], timestamps_ms=1704067200000 + number * 3600_000)
    return tmp_path


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("earliest", 0),
        ("latest", 10),
        ("7", 7),
        ("10", 10),
        ("2024-01-01T03:00:00", 3),
        ("2024-01-01T03:00:01+01:00", 3),
        ("2024-01-01", 0),
        ("@1704067200001", 1),
        ("2030-01-01", 10),
    ],
)
def test_reading_begins_where_it_is_told(hourly: Path, start: str, first: int) -> None:
    output = run("consume", "t", "--data", hourly, "--from", start).stdout_bytes
    assert output == b"".join(b"%d\n" % number for number in range(first, 10))


@pytest.mark.parametrize("start", ["11", "never", "@x", "-1", "2024-13-01"])
def test_a_beginning_that_is_none_is_refused(hourly: Path, start: str) -> None:
    assert "error: " in run("consume", "t", "--data", hourly, f"--from={start}", status=2).stderr


def test_an_offset_without_its_partition_is_refused(tmp_path: Path) -> None:
    run("produce", "t", "--data", tmp_path, "--partitions", 2, stdin=b"a\n")
    assert "--partition" in run("consume", "t", "--data", tmp_path, "--from", 0, status=2).stderr
    assert "partitions 0 to 1" in run("consume", "t", "--data", tmp_path, "--partition", 2, status=2).stderr


def test_it_stops_after_so_many_records(hourly: Path) -> None:
    assert run("consume", "t", "--data", hourly, "--max-records", 3).stdout_bytes == b"0\n1\n2\n"
    assert run("consume", "t", "--data", hourly, "--max-records", 0).stdout_bytes == b""
    assert run("consume", "t", "--data", hourly, "--max-records", 3, "--follow").stdout_bytes == b"0\n1\n2\n"


def test_following_shows_what_a_live_writer_in_another_process_appends(tmp_path: Path) -> None:
    with logstore.open(tmp_path) as store:
        store.create_topic("t", 2)
        store.log("t", 0).append([b"before"])
        reader = subprocess.Popen(
            command("consume", "t", "--follow", "--max-records", "3", "--data", tmp_path),
            stdout=subprocess.PIPE,
            env=environment(),
        )
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"before\n"
        store.log("t", 1).append([b"after"])
        assert reader.stdout.readline() == b"after\n"
        store.log("t", 0).append([b"end"])
        assert reader.communicate(timeout=30)[0] == b"end\n"
        assert reader.returncode == 0


def test_ctrl_c_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    run("produce", "t", "--data", tmp_path, stdin=b"a\n")
    with subprocess.Popen(
        command("consume", "t", "--follow", "--data", tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run in background
    ) as reader:
        try:
            assert reader.stdout is not None
            reader.stdout.readline()
            reader.send_signal(signal.SIGINT)
            _, errors = reader.communicate(timeout=30)
        finally:
            reader.kill()
    assert (reader.returncode, errors) == (130, b"")


def test_lines_that_come_slowly_are_stored_as_they_come(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        command("produce", "t", "--data", tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    assert writer.stdin is not None
    writer.stdin.write(b"one\n")
    writer.stdin.flush()
    deadline = time.monotonic() + 30
    while not (tmp_path / "t_0" / f"{0:020}.log").exists() or not (tmp_path / "t_0" / f"{0:020}.log").stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert run("consume", "t", "--data", tmp_path).stdout_bytes == b"one\n"
    locked = run("produce", "t", "--data", tmp_path, stdin=b"x\n", status=2)
    assert f"process {writer.pid}" in locked.stderr
    writer.communicate(b"two\n", timeout=30)
    assert run("consume", "t", "--data", tmp_path).stdout_bytes == b"one\ntwo\n"


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    run("produce", "t", "--data", tmp_path, stdin=b"some line that is repeated\n" * 20_000)
    reader, writer = os.pipe()
    process = subprocess.Popen(
        command("consume", "t", "--data", tmp_path), stdout=writer, stderr=subprocess.PIPE, env=environment()
    )
    os.close(writer)
    assert os.read(reader, 10)
    os.close(reader)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_an_output_that_is_full_is_an_error_in_words(tmp_path: Path) -> None:
    run("produce", "t", "--data", tmp_path, stdin=b"line\n")
    with open("/dev/full", "wb") as full:
        process = subprocess.run(
            command("consume", "t", "--data", tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert process.returncode == 2
    assert process.stderr.decode().startswith("error: ")
    assert b"Traceback" not in process.stderr


def test_a_gap_is_told_and_passed_over_and_damage_stops_the_reader_unless_it_is_skipped(tmp_path: Path) -> None:
    for number in range(5):
        run("produce", "t", "--data", tmp_path, stdin=b"record %d\n" % number)
    log = tmp_path / "t_0" / f"{0:020}.log"
    data = bytearray(log.read_bytes())
    data[data.index(b"record 2")] ^= 1
    log.write_bytes(data)
    stopped = run("consume", "t", "--data", tmp_path, status=1)
    assert stopped.stdout == "record 0\nrecord 1\n"
    assert str(log) in stopped.stderr
    assert "salvage" in stopped.stderr
    skipped = run("consume", "t", "--data", tmp_path, "--skip-damage", status=1)
    assert skipped.stdout == "record 0\nrecord 1\nrecord 3\nrecord 4\n"
    run("salvage", "--data", tmp_path, "--write")
    salvaged = run("consume", "t", "--data", tmp_path)
    assert salvaged.stdout == "record 0\nrecord 1\nrecord 3\nrecord 4\n"
    assert "offsets 2 to 2 were lost" in salvaged.stderr


def test_a_missing_file_topic_or_directory_is_an_error_in_words(tmp_path: Path) -> None:
    assert "nope" in run("produce", "t", tmp_path / "nope", "--data", tmp_path / "d", status=2).stderr
    assert "there is no such directory" in run("consume", "t", "--data", tmp_path / "d", status=2).stderr
    run("produce", "t", "--data", tmp_path / "d", stdin=b"a\n")
    assert "no topic 'u'" in run("consume", "u", "--data", tmp_path / "d", status=2).stderr
    assert "'a/b' is not a topic name" in run("produce", "a/b", "--data", tmp_path / "d", status=2).stderr


def test_the_data_directory_comes_from_the_environment_or_is_data(tmp_path: Path) -> None:
    assert spawn("produce", "t", cwd=tmp_path, stdin=b"a\n").returncode == 0
    assert (tmp_path / "data" / "t_0").is_dir()
    process = subprocess.run(
        command("consume", "t"),
        env={**environment(), "LOGSTORE_DATA": str(tmp_path / "data")},
        capture_output=True,
        check=False,
    )
    assert process.stdout == b"a\n"


def test_a_missing_data_directory_is_named_with_its_remedy(tmp_path: Path) -> None:
    for args in (
        ["consume", "t"],
        ["topic", "describe", "t"],
        ["topic", "delete", "t"],
        ["verify"],
        ["stats"],
        ["dump"],
    ):
        said = run(*args, "--data", tmp_path / "none", status=2).stderr
        assert f"{tmp_path / 'none'} is not" in said
        assert "logstore topic create" in said
        assert "--data" in said


def test_one_partition_is_no_partitions(tmp_path: Path) -> None:
    assert "with 1 partition\n" in run("produce", "t", "--data", tmp_path, stdin=b"a\n").stderr
    assert "has 1 partition, not 2" in run("produce", "t", "--data", tmp_path, "--partitions", 2, stdin=b"b\n").stderr


@pytest.mark.parametrize("size", [500, 300_000])
def test_a_keyed_line_that_is_too_long_is_named_and_all_lines_before_it_are_stored(tmp_path: Path, size: int) -> None:
    run("topic", "create", "t", "--partitions", 5, "--data", tmp_path, "--set", "max.message.bytes=200")
    keys = [b"key-%d" % number for number in range(20)]
    lines = [key + b"=v" for key in keys]
    for bad in (13, 16):
        lines[bad] += b"x" * size
    assert partition_for_key(keys[13], 5) != partition_for_key(keys[16], 5)
    result = run("produce", "t", "--data", tmp_path, "--key-separator", "=", stdin=b"\n".join(lines), status=2)
    assert "line 14 is too long" in result.stderr
    stored = run("consume", "t", "--data", tmp_path, "--format", "{key}\\n").stdout_bytes.split()
    assert set(keys[:13]) <= set(stored)
    assert keys[13] not in stored


def test_a_line_that_never_ends_is_named() -> None:
    read = _batches(io.BytesIO(b"a\nb\n" + b"x" * 1000), batch_size=10, line_size_max=100)
    with pytest.raises(InvalidRecord, match="line 3 is longer than 100 bytes"):
        list(read)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_output_is_no_error_and_no_file_takes_its_place(tmp_path: Path, closed: str) -> None:
    run("produce", "t", "--data", tmp_path, stdin=b"a\nb\n")
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    for args in (["consume", "t"], ["consume", "t", "--json"], ["verify", "--json"], ["verify"], ["topic", "list"]):
        line = f"{shlex.join(command(*args, '--data', tmp_path))} {closed}"
        result = subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, timeout=60, check=False)
        assert (result.returncode, result.stderr) == (0, b""), args
    assert {path: path.read_bytes() for path in before} == before
    line = f"{shlex.join(command('consume', 'nope', '--data', tmp_path))} {closed}"
    result = subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, timeout=60, check=False)
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr
