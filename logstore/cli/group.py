"""``logstore group``: list, describe, lag, reset-offsets (in ``reset_offsets``), delete."""

import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from logstore.cli.options import emit_json, json_option
from logstore.cli.places import Groups, Place, ends, open_to_change, open_to_look, place_options
from logstore.cli.reset_offsets import reset_offsets
from logstore.cli.text import show_table
from logstore.errors import UnknownGroup
from logstore.format.filename import TopicPartition
from logstore.groups.group import GroupState
from logstore.groups.lag import PartitionLag, assigned, lags
from logstore.groups.requests import GroupDescription, MemberDescription

_NO_GROUPS = "there are no groups"
_LAG_COLUMNS = ("topic", ">partition", ">committed", ">end", ">lag")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """List and describe consumer groups, see their lag, move their offsets, delete them.

    What only looks works beside a live writer in another process, and on Apache Kafka's directories: it shows what was
    stored, so the members are those of the last rebalance that was finished, though they may be gone by now.

    \b
    Examples:
      logstore group list
      logstore group lag billing
      logstore group reset-offsets billing --all-topics --to-earliest --execute
    """


group.add_command(reset_offsets)


@group.command("list")
@json_option("One JSON object a line for each group.")
@place_options
def list_groups(as_json: bool, data: Path, bootstrap: str | None) -> None:
    """List the groups, with their states and the topics that they have committed offsets of or partitions of.

    \b
    Example:
      logstore group list --data /var/lib/app/data
    """
    with open_to_look(data, bootstrap) as store:
        groups = store.groups
        found = [(description, _topics(groups, description)) for description in groups.groups()]
    if as_json:
        for description, topics in found:
            emit_json({**_as_json(description), "members": len(description.members), "topics": topics})
        return
    rows = [
        (description.group, description.state, description.protocol or "-", len(description.members), ", ".join(topics))
        for description, topics in found
    ]
    click.echo(show_table(("group", "state", "strategy", ">members", "topics"), rows) if rows else _NO_GROUPS)


@group.command()
@click.argument("name", metavar="GROUP")
@click.option("--offsets", is_flag=True, help="The committed offsets in place of the members.")
@json_option("The group as one JSON object, with its members, or its offsets.")
@place_options
def describe(name: str, offsets: bool, as_json: bool, data: Path, bootstrap: str | None) -> None:
    """Show a group's members and their partitions, or the offsets that it has committed.

    \b
    Examples:
      logstore group describe billing
      logstore group describe billing --offsets --json
    """
    with open_to_look(data, bootstrap) as store:
        found, partitions = _found(store, name)
    if as_json:
        rows = {"offsets": list(map(_offset_json, partitions))} if offsets else {"members": _members_json(found)}
        emit_json({**_as_json(found), **rows})
        return
    strategy = f", {found.protocol}" if found.protocol else ""
    click.echo(f"group {name}: {found.state}, generation {found.generation}{strategy}, {_count(found)}")
    if offsets:
        _show_offsets(partitions)
    elif found.members:
        _show_members(found)


@group.command()
@click.argument("name", metavar="GROUP")
@json_option("One JSON object, with the partitions and the total lag.")
@place_options
def lag(name: str, as_json: bool, data: Path, bootstrap: str | None) -> None:
    """Show how far a group is behind, partition by partition.

    The lag is how many offsets the end of a partition is ahead of what the group has committed; where compaction took
    records away, or transactions left markers, fewer records are behind. It is unknown, and left out of the total,
    where nothing was committed, or where the partition is no longer there.

    \b
    Example:
      logstore group lag billing --json
    """
    with open_to_look(data, bootstrap) as store:
        _, partitions = _found(store, name)
    total = sum(partition.lag for partition in partitions if partition.lag is not None)
    if as_json:
        emit_json({"group": name, "lag": total, "partitions": list(map(_offset_json, partitions))})
        return
    if partitions:
        click.echo(show_table(_LAG_COLUMNS, list(map(_lag_row, partitions))))
    click.echo(f"group {name} is {total:,} offsets behind")


@group.command()
@click.argument("names", metavar="GROUP...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option("One JSON object a line for each group that was deleted.")
@place_options
def delete(names: tuple[str, ...], yes: bool, as_json: bool, data: Path, bootstrap: str | None) -> None:
    """Delete groups that have no members, with all that they have committed: who joins again starts where its
    auto.offset.reset says. Asks first; where there is no terminal to ask at, --yes must be given.

    \b
    Example:
      logstore group delete billing --yes
    """
    with open_to_change(data, bootstrap, create=False) as store:
        for name in names:
            _check_known(store.groups.describe(name))
        if not yes:
            what = f"group {names[0]}" if len(names) == 1 else f"{len(names)} groups"
            if not sys.stdin.isatty():
                raise click.UsageError(f"{what}: not deleted unasked; give --yes where there is no terminal")
            click.confirm(f"delete {what} and all that was committed?", abort=True, err=True)
        for name in names:
            store.groups.delete(name)
            if as_json:
                emit_json({"group": name})
            else:
                click.echo(f"deleted group {name}")


# ---------------------------------------------------------------------------------------------------------------- look


def _found(store: Place, name: str) -> tuple[GroupDescription, list[PartitionLag]]:
    """Raises UnknownGroup."""
    groups = store.groups
    description = groups.describe(name)
    _check_known(description)
    partitions = lags(
        description, groups.committed(name), lambda topic, number: ends(store, TopicPartition(topic, number))
    )
    return description, partitions


def _check_known(description: GroupDescription) -> None:
    if description.state == GroupState.DEAD.value:
        raise UnknownGroup(description.group)


def _topics(groups: Groups, description: GroupDescription) -> list[str]:
    theirs = [partition for member in description.members for partition in assigned(description, member) or ()]
    return sorted({partition.topic for partition in (*groups.committed(description.group), *theirs)})


# ---------------------------------------------------------------------------------------------------------------- show


def _show_members(found: GroupDescription) -> None:
    rows = [
        (member.member_id, member.instance_id or "-", member.client_id, member.client_host, _partitions(found, member))
        for member in found.members
    ]
    click.echo(show_table(("member", "instance", "client", "host", "partitions"), rows))


def _show_offsets(partitions: list[PartitionLag]) -> None:
    rows = [
        (
            *_lag_row(row),
            row.member.member_id if row.member else "-",
            row.committed.metadata if row.committed else "",
        )
        for row in partitions
    ]
    click.echo(show_table((*_LAG_COLUMNS, "member", "metadata"), rows) if rows else "it has committed nothing")


def _lag_row(row: PartitionLag) -> tuple[object, ...]:
    committed = None if row.committed is None else row.committed.offset
    return (
        row.topic,
        row.partition,
        *("-" if each is None else each for each in (committed, row.log_end_offset, row.lag)),
    )


def _partitions(found: GroupDescription, member: MemberDescription) -> str:
    partitions = assigned(found, member)
    return "?" if partitions is None else _show_partitions(partitions) or "none"


def _show_partitions(partitions: Iterable[TopicPartition]) -> str:
    """As in ``orders 0-2,5; payments 0``."""
    return "; ".join(
        f"{topic} {_runs([partition for _, partition in those])}"
        for topic, those in groupby(sorted(partitions), key=lambda partition: partition.topic)
    )


def _runs(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def _count(found: GroupDescription) -> str:
    count = len(found.members)
    return "no members" if count == 0 else "1 member" if count == 1 else f"{count} members"


# ---------------------------------------------------------------------------------------------------------------- JSON


def _as_json(found: GroupDescription) -> dict[str, Any]:
    return {
        "group": found.group,
        "state": found.state,
        "protocol_type": found.protocol_type,
        "protocol": found.protocol,
        "generation": found.generation,
    }


def _members_json(found: GroupDescription) -> list[dict[str, Any]]:
    """``partitions`` is null of a member whose assignment cannot be read."""
    rows = []
    for member in found.members:
        partitions = assigned(found, member)
        rows.append(
            {
                "member_id": member.member_id,
                "instance_id": member.instance_id,
                "client_id": member.client_id,
                "client_host": member.client_host,
                "partitions": None if partitions is None else [each._asdict() for each in sorted(partitions)],
            }
        )
    return rows


def _offset_json(row: PartitionLag) -> dict[str, Any]:
    commit = row.committed
    return {
        "topic": row.topic,
        "partition": row.partition,
        "committed": None if commit is None else commit.offset,
        "metadata": None if commit is None else commit.metadata,
        "leader_epoch": None if commit is None else commit.leader_epoch,
        "log_end_offset": row.log_end_offset,
        "lag": row.lag,
        "member_id": None if row.member is None else row.member.member_id,
    }
