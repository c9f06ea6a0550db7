"""Random bytes in every kind of file: dump, verify and the others end with a status and words, never a traceback."""

import random
from pathlib import Path

import pytest
from click.testing import CliRunner

import logstore
from cli import spawn
from logstore.cli import main

_NAMES = [
    f"{5:020}.log",
    f"{5:020}.index",
    f"{5:020}.timeindex",
    f"{5:020}.txnindex",
    f"{5:020}.snapshot",
    "leader-epoch-checkpoint",
    "offset-gap-checkpoint",
    "partition.metadata",
    "meta.properties",
    "recovery-point-offset-checkpoint",
    "cleaner-offset-checkpoint",
    ".kafka_cleanshutdown",
    "odd name.log",
    "bootstrap.checkpoint",
]


def _ends_well(*args: object) -> int:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert isinstance(result.exception, SystemExit | None), (args, result.exc_info)
    assert result.exit_code in (0, 1, 2), (args, result.output)
    return result.exit_code


@pytest.mark.parametrize("name", _NAMES)
def test_random_bytes_are_damage(tmp_path: Path, name: str) -> None:
    source = random.Random(name)
    path = tmp_path / "t_0" / name
    path.parent.mkdir()
    for size in (1, 3, 7, 8, 12, 24, 34, 61, 62, 100, 1000, 5000):
        path.write_bytes(b"\xff" + source.randbytes(size - 1))
        for command in ("dump", "verify"):
            assert _ends_well(command, path) == 1, (command, size)
            assert _ends_well(command, path, "--json") == 1
        for command in ("stats", "salvage", "reindex"):
            _ends_well(command, path.parent)


@pytest.mark.parametrize("seed", range(30))
def test_a_directory_with_bytes_changed_cut_and_put_in_anywhere_is_handled(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    data = tmp_path / "data"
    with logstore.open(data) as store:
        store.create_topic("t", segment_bytes=2000, index_interval_bytes=100)
        for number in range(30):
            values = [source.randbytes(source.randrange(80)) for _ in range(3)]
            compression = logstore.Compression(number % 5)
            store.log("t").append(values, headers=[(("h", b"v"),)] * 3, compression=compression)
    paths = [path for path in sorted(data.rglob("*")) if path.is_file() and path.stat().st_size]
    for path in source.sample(paths, 4):
        content = bytearray(path.read_bytes())
        at = source.randrange(len(content))
        match source.randrange(3):
            case 0:
                content[at] ^= 1 << source.randrange(8)
            case 1:
                del content[at : at + source.randrange(1, 200)]
            case _:
                content[at:at] = source.choice([bytes(100), source.randbytes(100)])
        path.write_bytes(content)
    _ends_well("dump", data, "--records")
    _ends_well("dump", data, "--records", "--offsets", "--json")
    _ends_well("verify", data)
    _ends_well("stats", data)
    _ends_well("consume", "t", "--data", data)
    _ends_well("retention", "explain", "--data", data)
    _ends_well("topic", "describe", "t", "--data", data)
    if _ends_well("salvage", data, "--write") == 0:
        _ends_well("reindex", data, "--index-interval", 100)
        logs = sorted((data / "t_0").glob("*.log"))
        assert all(_ends_well("verify", log) == 0 for log in logs)


def test_garbage_ends_a_real_process_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / f"{0:020}.log"
    path.write_bytes(random.Random(1).randbytes(10_000))
    for command in ("dump", "verify", "stats"):
        result = spawn(command, path)
        assert result.returncode == 1
        assert result.stderr == b""
    assert b"Traceback" not in spawn("dump", b"\xff\xfe".decode("latin-1"), cwd=tmp_path).stderr
