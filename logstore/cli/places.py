"""What a command works on: a data directory, or a Kafka cluster, which a broker of logstore is too."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import click
from click.core import ParameterSource

from logstore.cli.options import data_option, open_to_write
from logstore.errors import Unsupported
from logstore.format.filename import TopicPartition
from logstore.groups.coordinator import GroupCoordinator
from logstore.groups.ends import PartitionEnds
from logstore.groups.stored_groups import StoredGroups
from logstore.storage.log_view import TimestampAndOffset
from logstore.store import ReadOnlyTopicStore, TopicStore

if TYPE_CHECKING:
    from logstore.client.embedded.store import ReadOnlyStore, Store
    from logstore.client.kafka.cluster import Cluster
    from logstore.client.kafka.groups import ClusterGroups

Command = Callable[..., Any]
Place = Union[TopicStore, ReadOnlyTopicStore, "Cluster"]
Groups = Union[GroupCoordinator, StoredGroups, "ClusterGroups"]


def place_options(command: Command) -> Command:
    """--data and --bootstrap, of which one counts."""
    help_text = "Brokers of a Kafka cluster, or of logstore, in place of a directory."
    return data_option(click.option("--bootstrap", metavar="HOST:PORT", help=help_text)(command))


def directory_option(what: str) -> Callable[[Command], Command]:
    """--data for a command that ``what`` of a cluster is beyond; --bootstrap is refused with the reason."""

    def refuse(context: click.Context, parameter: click.Parameter, bootstrap: str | None) -> None:
        if bootstrap is not None:
            raise Unsupported(f"{what} on a Kafka cluster", "queues are in directories: use --data")

    refused = click.option("--bootstrap", hidden=True, expose_value=False, callback=refuse)
    return lambda command: data_option(refused(command))


def open_to_look(data: Path, bootstrap: str | None) -> Union["ReadOnlyStore", "Cluster"]:
    """Raises as ``logstore.open`` and ``logstore.connect``."""
    if bootstrap is not None:
        return _connect(bootstrap)
    from logstore.client.embedded.store import open as open_store

    return open_store(data, read_only=True)


def open_to_change(data: Path, bootstrap: str | None, *, create: bool = True) -> Union["Store", "Cluster"]:
    """Raises as ``logstore.open`` and ``logstore.connect``."""
    return open_to_write(data, create=create) if bootstrap is None else _connect(bootstrap)


def ends(place: Place, partition: TopicPartition) -> PartitionEnds:
    """Raises UnknownTopic, UnknownPartition; of a cluster, once it is asked for an offset."""
    if isinstance(place, TopicStore | ReadOnlyTopicStore):
        return place.log(*partition).view
    return ClusterLog(place, partition)


def _connect(bootstrap: str) -> "Cluster":
    if click.get_current_context().get_parameter_source("data") is ParameterSource.COMMANDLINE:
        raise click.UsageError("give --data or --bootstrap, not both")
    from logstore.client.kafka.connecting import connect

    return connect(bootstrap)


class ClusterLog(NamedTuple):
    """One partition of a cluster, as far as a look at a directory's has the same."""

    cluster: "Cluster"
    partition: TopicPartition

    @property
    def name(self) -> str:
        return f"{self.partition.topic}-{self.partition.partition}"

    @property
    def log_start_offset(self) -> int:
        return self.cluster.beginning_offsets([self.partition])[self.partition]

    @property
    def log_end_offset(self) -> int:
        return self.cluster.end_offsets([self.partition])[self.partition]

    def offset_for_time(self, timestamp_ms: int) -> TimestampAndOffset | None:
        """The timestamp is the one that was asked for: the cluster tells only the offset."""
        offset = self.cluster.offsets_for_times({self.partition: timestamp_ms})[self.partition]
        return None if offset is None else TimestampAndOffset(timestamp_ms, offset)
