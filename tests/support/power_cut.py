"""A script that cuts the power of a file system under a busy writer, again and again, and checks what the disk kept.

    power_cut.py DIRECTORY ext4|xfs CUTS SEED

The file system lies in a file, is mounted at DIRECTORY/mounted, and is shut down by its own ioctl: what it has not
written by then is gone, its journal's too. Before that some files are written out behind the engine's back, as a kernel
does in an order of its own. Then it is mounted again and must hold all that was synced, and of the rest a prefix;
sometimes the power goes once more while the directory is opened. A cut starts no new boot: the script says it does.
Ends with 1 and the broken promise at the first one; prints a summary.
"""

import ctypes
import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from busy_writer import write_busily
from children import WrittenJournal, fork, wait
from disk_image import make_image
from driver import Acknowledged, Event
from log_tools import Clock
from logstore.errors import LogstoreError
from logstore.storage import files
from logstore.storage.data_dir import DataDir
from logstore.storage.durability import Durability
from promises import Promises, check_directory

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
NO_LOG_FLUSH = 2
LIFE_MS_MAX = 250
_SYNC_FILE_RANGE_ALL = 7  # wait, write, wait: the data of a file, but not what the file system knows of it


class DiskImage:
    """A file system in a file."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.image, self.mounted = directory / "image", directory / "mounted"
        self.boot = 0
        self.mounted.mkdir()
        make_image(self.image, kind)

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.image, self.mounted], check=True)
        self.boot += 1
        files.boot_id = lambda boot=self.boot: f"boot {boot}"  # type: ignore[misc]

    def unmount(self) -> None:
        subprocess.run(["umount", self.mounted], check=True)

    def write_out(self, choose: random.Random) -> None:
        """Some files, whole, in any order."""
        libc = ctypes.CDLL(None, use_errno=True)
        found = [Path(directory) / name for directory, _, names in os.walk(self.mounted) for name in names]
        for path in choose.sample(found, min(len(found), choose.randrange(6))):
            try:
                fd = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_ALL)
            os.close(fd)

    def cut_power(self) -> None:
        fd = os.open(self.mounted, os.O_RDONLY)
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(fd)


def live(
    disk: DiskImage, run: Callable[[], object], life_s: float, choose: random.Random, journal: WrittenJournal
) -> list[Event]:
    """``run`` in a process until the power goes; what it noted. A sync that the cut overtakes may return as if all was
    well (ext4), to a process that had no power any more: what was achieved after the cut began does not count."""
    pid = fork(lambda: (_be_quiet(), run()))
    time.sleep(life_s)
    disk.write_out(choose)
    noted_size = journal.size()
    disk.cut_power()
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    disk.unmount()
    disk.mount()
    return journal.take(noted_size)


def _be_quiet() -> None:
    """What a writer says of the disk that it has lost is of no interest."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


def check_life(path: Path, promises: Promises, events: list[Event]) -> int:
    """Check what is there, and hold on to it; how many records are lost, which nobody said were on the disk."""
    promises.take(events, survives=Durability.FSYNC)
    ends = {key: log.end for key, log in promises.logs.items()}
    check_directory(path, promises, settle=True)
    return sum(max(0, ends.get(key, 0) - log.end) for key, log in promises.logs.items())


def main(directory: Path, kind: str, cut_count: int, seed: int) -> None:
    choose = random.Random(seed)
    disk = DiskImage(directory, kind)
    disk.mount()
    try:
        print(cut_and_check(disk, cut_count, choose))
    finally:
        subprocess.run(["umount", "-l", disk.mounted], check=True)  # after a broken promise it is in use still


def cut_and_check(disk: DiskImage, cut_count: int, choose: random.Random) -> str:
    path, journal, promises = disk.mounted / "data", WrittenJournal(), Promises()
    counts: Counter[str] = Counter()
    while counts["cuts"] < cut_count:
        life_seed = choose.randrange(1 << 32)
        life = counts["lives"]
        synced_share = choose.choice((0, 0.05, 0.4))
        life_s = choose.uniform(0.02, LIFE_MS_MAX / 1000)
        work = partial(write_busily, path, journal, life, life_seed, synced_share)
        events = live(disk, work, life_s, choose, journal)
        counts["lives"] += 1
        counts["cuts"] += 1
        if choose.random() < 0.3:
            live(disk, lambda: DataDir(path, now_ms=Clock()).close(), choose.uniform(0, 0.02), choose, journal)
            counts["cuts"] += 1
        for event in events:
            if isinstance(event, Acknowledged):
                counts["synced" if event.durability is Durability.FSYNC else "cached"] += len(event.values)
        try:
            counts["lost"] += check_life(path, promises, events)
        except (AssertionError, LogstoreError) as error:
            raise AssertionError(f"life {life}: {type(error).__name__}: {error}") from error
    return (
        f"{counts['cuts']} cuts of power, {counts['synced']} records acknowledged as synced, {counts['cached']} as "
        f"cached, {counts['lost']} of them lost, 0 broken promises"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
