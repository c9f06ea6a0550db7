"""What the commands that change logs share: the lock, and the topics' settings."""

from pathlib import Path

import click

from logstore.config import TopicConfig
from logstore.errors import DataDirLocked, NotADataDir
from logstore.format import filename
from logstore.storage import files
from logstore.storage.ownership import is_ours, take_lock
from logstore.storage.topics import Topics


def lock_data_dir(path: Path) -> files.File:
    """Keep others, Apache Kafka among them, from opening the directory until the file is closed. Nothing is written to
    the lock file of a directory that is not ours. Raises DataDirLocked, StorageFailure."""
    if _is_ours(path):
        return take_lock(path)
    file = files.open_file(path / filename.LOCK, writable=True, create=True)
    if not files.lock(file):
        file.close()
        raise DataDirLocked(str(path), "perhaps Apache Kafka")
    return file


def index_intervals(path: Path) -> dict[str, int]:
    """By topic: ``index.interval.bytes``. None of a directory that is not ours."""
    if not _is_ours(path):
        return {}
    registry = Topics(path)
    topics = registry.load()
    for error in registry.damaged.values():  # nothing but the distance of index entries depends on it
        click.echo(f"warning: {error}; its indexes get an entry every {DEFAULT_INDEX_INTERVAL} bytes", err=True)
    return {name: topic.config.index_interval_bytes for name, topic in topics.items()}


DEFAULT_INDEX_INTERVAL = TopicConfig().index_interval_bytes


def _is_ours(path: Path) -> bool:
    """False of another program's directory too, and of one whose format this program does not know."""
    try:
        return is_ours(path)
    except NotADataDir:
        return False
