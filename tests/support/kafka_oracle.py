"""Apache Kafka's own DumpLogSegments as a judge of files: what it printed, parsed, and what it complained about.

It starts a JVM a call (a third of a second), so give it many files at once. Its exit status says little: a wrong CRC is
`isvalid: false` in its output, a wrong index entry a few lines on stderr; only a file that it cannot read at all makes
it fail. `Dump.problems` collects all of these. What it does not see: an `.index` whose entries are out of order but
right. For an index it also reads the `.log` of the same name beside it.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Decoder = Literal["offsets", "transaction-log", "cluster-metadata"]

_RECORD = re.compile(
    r"\| offset: (?P<offset>\d+) (?P<timestamp_type>\w+): (?P<timestamp_ms>-?\d+) keySize: (?P<key_size>-?\d+)"
    r" valueSize: (?P<value_size>-?\d+)(?: sequence: (?P<sequence>-?\d+))? headerKeys: \[(?P<headers>.*?)\]"
    r"(?: (?P<control>endTxnMarker: .*?))?(?: key: (?P<key>.*?))?(?: payload: (?P<value>.*))?"
)


class DumpedRecord(NamedTuple):
    """A record as DumpLogSegments printed it: sizes are -1 for null, key and value are text, None where not printed."""

    offset: int
    timestamp_ms: int
    key_size: int
    value_size: int
    header_keys: list[str]
    key: str | None
    value: str | None


@dataclass(frozen=True)
class Dump:
    output: str
    complaints: str  # stderr

    @property
    def problems(self) -> list[str]:
        """Empty where Kafka finds nothing wrong."""
        invalid = [line for line in self.output.splitlines() if "isvalid: false" in line or line.startswith("Found ")]
        return invalid + self.complaints.splitlines()

    def only(self, *paths: Path) -> "Dump":
        """What was printed about these files: one JVM for many files, looked at one by one. Complaints go unsorted."""
        wanted = {f"Dumping {path}" for path in paths}
        lines, inside = [], False
        for line in self.output.splitlines():
            if line.startswith("Dumping "):
                inside = line in wanted
            if inside:
                lines.append(line)
        return Dump("\n".join(lines), self.complaints)

    def batches(self) -> list[dict[str, str]]:
        """Each batch's line as a mapping, with Kafka's names: baseOffset, lastOffset, count, size, compresscodec...

        A message of the formats before batches is one of its own, with other names.
        """
        lines = [line for line in self.output.splitlines() if " magic: " in line and not line.startswith("|")]
        return [dict(re.findall(r"(\w+): (\S+)", line)) for line in lines]

    def records(self) -> list[DumpedRecord]:
        """Each record; keys and values must not hold line breaks, nor keys the text ' payload: '."""
        records = []
        for line in self.output.splitlines():
            if not line.startswith("| "):
                continue
            match = _RECORD.fullmatch(line)
            assert match is not None, line
            headers = match["headers"].split(",") if match["headers"] else []
            sizes = int(match["key_size"]), int(match["value_size"])
            records.append(
                DumpedRecord(
                    int(match["offset"]), int(match["timestamp_ms"]), *sizes, headers, match["key"], match["value"]
                )
            )
        return records

    def index_entries(self) -> list[tuple[int, int]]:
        """(offset, position) of each `.index` entry, (timestamp, offset) of each `.timeindex` entry."""
        pattern = r"(?:offset|timestamp): (-?\d+) (?:position|offset): (\d+)"
        matches = (re.fullmatch(pattern, line) for line in self.output.splitlines())
        return [(int(match[1]), int(match[2])) for match in matches if match]


class KafkaOracle:
    def __init__(self, jars: Path) -> None:
        self.jars = jars
        self._java = [
            "java",
            "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dfile.encoding=UTF-8",
            "-cp",
            f"{jars}/*",
        ]

    def dump_log_segments(self, *paths: Path, records: bool = True, decoder: Decoder | None = None) -> Dump:
        """Any of `.log`, `.index`, `.timeindex`, `.txnindex`, `.snapshot`; batches are decompressed, CRCs checked."""
        options = ["--print-data-log"] if records else ["--deep-iteration"]
        return self._dump(paths, options if decoder is None else [*options, f"--{decoder}-decoder"])

    def verify_indexes(self, *paths: Path) -> Dump:
        """Each entry against the `.log` beside it."""
        return self._dump(paths, ["--verify-index-only"])

    def check_indexes(self, *paths: Path) -> Dump:
        """The sanity check that a broker makes on start: size, and last entry against the base offset."""
        dump = self._dump(paths, ["--index-sanity-check"])
        assert dump.problems or dump.output.count("passed sanity check.") == len(paths), dump.output
        return dump

    def _dump(self, paths: tuple[Path, ...], options: list[str]) -> Dump:
        names = [str(path) for path in paths]
        assert names and not any("," in name for name in names), "DumpLogSegments takes its files separated by commas"
        done = subprocess.run(
            [*self._java, "kafka.tools.DumpLogSegments", *options, "--files", ",".join(names)],
            capture_output=True,
            timeout=100,
            check=False,
        )
        dump = Dump(done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
        assert done.returncode == 0 or dump.complaints, f"DumpLogSegments failed without a word: {done.returncode}"
        return dump
