"""``logstore topic``: create, list, describe, alter, delete."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from logstore.cli.options import emit_json, json_option
from logstore.cli.places import Place, ends, open_to_change, open_to_look, place_options
from logstore.cli.text import show_partition_count, show_size, show_table
from logstore.format.filename import TopicPartition
from logstore.storage.log_view import LogView
from logstore.storage.topics import TopicDescription

_settings_option: Callable[[Any], Any] = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting by Kafka's name, such as retention.ms=3600000. May be repeated.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def topic() -> None:
    """Create, list, describe, alter and delete topics.

    \b
    Examples:
      logstore topic create orders --partitions 3 --set retention.ms=604800000
      logstore topic describe orders
    """


@topic.command()
@click.argument("name")
@click.option("--partitions", type=int, metavar="COUNT", help="How many partitions; 1 where it is not given.")
@_settings_option
@json_option("The new topic as one JSON object.")
@place_options
def create(
    name: str, partitions: int | None, settings: tuple[str, ...], as_json: bool, data: Path, bootstrap: str | None
) -> None:
    """Create a topic. The data directory is made where there is none.

    \b
    Example:
      logstore topic create orders --partitions 3 --set cleanup.policy=compact
    """
    with open_to_change(data, bootstrap) as store:
        created = store.create_topic(name, partitions, **_parse(settings))
    _say(created, f"created topic {name}: {show_partition_count(created.partitions)}", as_json)


@topic.command("list")
@json_option("One JSON object a line for each topic.")
@place_options
def list_topics(as_json: bool, data: Path, bootstrap: str | None) -> None:
    """List the topics. Works beside a live writer, and on Apache Kafka's directories.

    \b
    Example:
      logstore topic list --data /var/lib/app/data
    """
    with open_to_look(data, bootstrap) as store:
        topics = store.topics()
        if as_json:
            for found in topics:
                emit_json(_as_json(found))
            return
        rows = [(found.name, found.partitions, _overrides(found)) for found in topics]
    click.echo(show_table(("topic", ">partitions", "settings"), rows) if rows else "there are no topics")


@topic.command()
@click.argument("name")
@click.option("--all", "show_all", is_flag=True, help="Show every setting, not only those that the topic sets itself.")
@json_option("The topic, its settings and its partitions as one JSON object.")
@place_options
def describe(name: str, show_all: bool, as_json: bool, data: Path, bootstrap: str | None) -> None:
    """Show a topic's settings, and for each partition its offsets and size.

    \b
    Example:
      logstore topic describe orders --all
    """
    with open_to_look(data, bootstrap) as store:
        found = store.topic(name)
        partitions = [_partition(store, name, number) for number in range(found.partitions)]
    settings = dict(found.config.items() if show_all else found.overrides)
    if as_json:
        emit_json({**_as_json(found), "settings": settings, "partition_list": partitions})
        return
    click.echo(f"topic {name}, id {found.topic_id}, {show_partition_count(found.partitions)}")
    docs = {row.name: row.doc for row in found.config.rows()}
    for setting, value in settings.items():
        click.echo(f"  {setting}={value}" + (f"   {docs[setting]}" if show_all else ""))
    rows = [_row(partition) for partition in partitions]
    click.echo(show_table((">partition", ">start offset", ">end offset", ">offsets", ">segments", ">size"), rows))


def _partition(place: Place, name: str, number: int) -> dict[str, int | None]:
    """Of a cluster's partition, how many segments and bytes it has is not told: None."""
    view = ends(place, TopicPartition(name, number))
    start_offset, end_offset = view.log_start_offset, view.log_end_offset
    return {
        "partition": number,
        "log_start_offset": start_offset,
        "log_end_offset": end_offset,
        "offsets": end_offset - start_offset,
        "segments": len(view.segments) if isinstance(view, LogView) else None,
        "size": view.size if isinstance(view, LogView) else None,
    }


def _row(partition: dict[str, int | None]) -> list[object]:
    *counts, size = partition.values()
    return [*("-" if count is None else count for count in counts), "-" if size is None else show_size(size)]


@topic.command()
@click.argument("name")
@click.option("--partitions", type=int, metavar="COUNT", help="More partitions. They can never become fewer.")
@_settings_option
@click.option("--unset", multiple=True, metavar="NAME", help="Back to the default. May be repeated.")
@json_option("The altered topic as one JSON object.")
@place_options
def alter(
    name: str,
    partitions: int | None,
    settings: tuple[str, ...],
    unset: tuple[str, ...],
    as_json: bool,
    data: Path,
    bootstrap: str | None,
) -> None:
    """Change a topic's settings, or add partitions. Keys go to other partitions then.

    \b
    Example:
      logstore topic alter orders --set retention.bytes=1000000000 --unset retention.ms
    """
    changes: dict[str, object] = {**_parse(settings), **dict.fromkeys(unset)}
    if not changes and partitions is None:
        raise click.UsageError("nothing to alter: give --partitions, --set or --unset")
    with open_to_change(data, bootstrap, create=False) as store:
        altered = store.alter_topic(name, changes, partitions)
    _say(altered, f"altered topic {name}: {show_partition_count(altered.partitions)}; {_overrides(altered)}", as_json)


@topic.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option("The deleted topic as one JSON object.")
@place_options
def delete(name: str, yes: bool, as_json: bool, data: Path, bootstrap: str | None) -> None:
    """Delete a topic and all its records. Asks first; where there is no terminal to ask at, --yes must be given.

    \b
    Example:
      logstore topic delete orders --yes
    """
    with open_to_change(data, bootstrap, create=False) as store:
        found = store.topic(name)
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(f"topic {name} is not deleted unasked: give --yes where there is no terminal")
            click.confirm(f"delete topic {name} and all its records?", abort=True, err=True)
        store.delete_topic(name)
    _say(found, f"deleted topic {name}", as_json)


def _parse(settings: tuple[str, ...]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator or not name:
            raise click.UsageError(f"--set {setting}: give NAME=VALUE, such as retention.ms=3600000")
        parsed[name.strip()] = value
    return parsed


def _say(found: TopicDescription, text: str, as_json: bool) -> None:
    if as_json:
        emit_json(_as_json(found))
    else:
        click.echo(text)


def _as_json(found: TopicDescription) -> dict[str, Any]:
    settings = dict(found.overrides)
    return {"topic": found.name, "id": str(found.topic_id), "partitions": found.partitions, "settings": settings}


def _overrides(found: TopicDescription) -> str:
    return ", ".join(f"{name}={value}" for name, value in found.overrides.items()) or "defaults"
