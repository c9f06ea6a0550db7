"""``logstore group reset-offsets``: commit for a group, in its place, where it is to go on."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from logstore.cli.options import emit_json, json_option, parse_time
from logstore.cli.places import Place, ends, open_to_change, open_to_look, place_options
from logstore.cli.text import show_table
from logstore.errors import GroupNotEmpty, InvalidArgument, UnknownGroup, UnknownPartition, UnknownTopic
from logstore.format.filename import TopicPartition
from logstore.groups import reset
from logstore.groups.requests import GroupDescription, OffsetAndMetadata

_FORMS = "give a time such as 2026-01-31T12:00:00, or milliseconds since 1970"


@click.command("reset-offsets")
@click.argument("name", metavar="GROUP")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="TOPIC[:PARTITIONS]",
    help="All partitions of a topic, or some, as in orders:0,2. May be repeated.",
)
@click.option("--all-topics", is_flag=True, help="All partitions that the group has committed an offset of.")
@click.option("--to-earliest", is_flag=True, help="To the first record that is there.")
@click.option("--to-latest", is_flag=True, help="To the end.")
@click.option("--to-offset", type=click.IntRange(min=0), metavar="OFFSET", help="To an offset.")
@click.option(
    "--to-time",
    metavar="TIME",
    help="To the first record from a time on, as 2026-01-31T12:00:00 (UTC unless it says +01:00), or milliseconds "
    "since 1970; to the end where there is none.",
)
@click.option("--shift-by", type=int, metavar="COUNT", help="So many offsets on, or back where it is negative.")
@click.option("--execute", is_flag=True, help="Do it. Otherwise it is only shown what would be done.")
@json_option("One JSON object a line for each partition.")
@place_options
def reset_offsets(
    name: str,
    topics: tuple[str, ...],
    all_topics: bool,
    to_earliest: bool,
    to_latest: bool,
    to_offset: int | None,
    to_time: str | None,
    shift_by: int | None,
    execute: bool,
    as_json: bool,
    data: Path,
    bootstrap: str | None,
) -> None:
    """Set where a group goes on. It must have no members then. Nothing is changed unless --execute is given.

    An offset that the log does not hold is replaced by the nearest that it does, with a warning. A group that is not
    known is made, with --topic.

    \b
    Examples:
      logstore group reset-offsets billing --topic orders --to-earliest
      logstore group reset-offsets billing --topic orders:0,2 --to-time 2026-01-31T12:00:00 --execute
      logstore group reset-offsets billing --all-topics --shift-by -100 --execute
    """
    target = _target(to_earliest, to_latest, to_offset, to_time, shift_by)
    if all_topics == bool(topics):
        raise click.UsageError("give either --topic, once or more, or --all-topics")
    if execute:
        with open_to_change(data, bootstrap, create=False) as store:
            _check_empty(store.groups.describe(name))
            resets = _plan(store, name, topics, target)
            store.groups.commit(name, {(row.topic, row.partition): OffsetAndMetadata(row.offset) for row in resets})
    else:
        with open_to_look(data, bootstrap) as looked_at:
            resets = _plan(looked_at, name, topics, target)
            _warn_of_members(looked_at.groups.describe(name))
    _show(name, resets, execute, as_json)


def _target(
    to_earliest: bool, to_latest: bool, to_offset: int | None, to_time: str | None, shift_by: int | None
) -> reset.Target:
    targets: list[reset.Target] = []
    if to_earliest:
        targets.append(reset.to_earliest)
    if to_latest:
        targets.append(reset.to_latest)
    if to_offset is not None:
        targets.append(reset.to_offset(to_offset))
    if to_time is not None:
        is_number = to_time.isascii() and to_time.isdigit()
        targets.append(reset.to_time(parse_time("--to-time", f"@{to_time}" if is_number else to_time, _FORMS)))
    if shift_by is not None:
        targets.append(reset.shift_by(shift_by))
    if len(targets) != 1:
        raise click.UsageError("give one of --to-earliest, --to-latest, --to-offset, --to-time and --shift-by")
    return targets[0]


def _check_empty(group: GroupDescription) -> None:
    if group.members:
        raise GroupNotEmpty(group.group, len(group.members))


def _warn_of_members(group: GroupDescription) -> None:
    if group.members:
        click.echo(
            f"warning: {GroupNotEmpty(group.group, len(group.members))}: --execute is refused till then", err=True
        )


def _plan(store: Place, name: str, topics: tuple[str, ...], target: reset.Target) -> list[reset.Reset]:
    committed = store.groups.committed(name)
    if not topics and not committed:
        raise UnknownGroup(name)
    views = {each: ends(store, each) for each in sorted(_named(store, topics) if topics else _there(store, committed))}
    return reset.plan(views, committed, target)


def _there(store: Place, committed: Iterable[TopicPartition]) -> Iterator[TopicPartition]:
    for each in committed:
        try:
            _ = ends(store, each).log_end_offset
            yield each
        except (UnknownTopic, UnknownPartition) as error:
            click.echo(f"warning: {each.topic}-{each.partition} is left as it is: {error}", err=True)


def _named(store: Place, topics: tuple[str, ...]) -> set[TopicPartition]:
    """Raises UnknownTopic, InvalidArgument."""
    found: set[TopicPartition] = set()
    for given in topics:
        topic, colon, numbers = given.partition(":")
        count = store.topic(topic).partitions
        if not colon:
            found.update(TopicPartition(topic, number) for number in range(count))
            continue
        for number in numbers.split(","):
            if not (number.isascii() and number.isdigit()):
                raise InvalidArgument("--topic", given, "give TOPIC, or TOPIC:PARTITIONS as in orders:0,2")
            found.add(TopicPartition(topic, int(number)))
    return found


def _show(name: str, resets: list[reset.Reset], executed: bool, as_json: bool) -> None:
    for row in resets:
        if row.offset != row.wanted:
            place = f"{row.topic}-{row.partition}"
            click.echo(f"warning: {place} does not hold offset {row.wanted}; the nearest is {row.offset}", err=True)
    if as_json:
        for row in resets:
            emit_json({"group": name, **row._asdict(), "executed": executed})
        return
    rows = [(row.topic, row.partition, "-" if row.committed is None else row.committed, row.offset) for row in resets]
    click.echo(show_table(("topic", ">partition", ">committed", ">new offset"), rows))
    click.echo(f"group {name} goes on there" if executed else "nothing was changed; give --execute to do it")
