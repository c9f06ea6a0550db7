"""``logstore queue``: put, get, peek, list, stats, dead, replay, purge, delete."""

import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import click

from logstore.cli.main import WRONG_USE
from logstore.cli.options import emit_json, json_option, open_to_write
from logstore.cli.places import directory_option
from logstore.cli.text import json_bytes, show_bytes, show_size, show_table, show_time
from logstore.client.embedded.store import Store
from logstore.client.embedded.store import open as open_store
from logstore.client.queue.looks import QueueStats
from logstore.client.queue.messages import Message
from logstore.client.queue.queue import Queue
from logstore.errors import Empty, InvalidArgument

_READ_SIZE = 64 << 10


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def queue() -> None:
    """Put messages into durable queues, get them out, see what is in them.

    \b
    Examples:
      logstore queue put jobs 'resize 4711.png' --delay 60
      logstore queue get jobs --timeout 10
      logstore queue stats
    """


@queue.command()
@click.argument("name")
@click.argument("value", required=False)
@click.option("--key", metavar="TEXT", help="The messages' key.")
@click.option("--delay", type=float, default=0.0, metavar="SECONDS", help="They cannot be got before that.")
@click.option("--ttl", type=float, metavar="SECONDS", help="After that they become dead letters.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the queue, such as ordered=true."
)
@json_option("The summary as one JSON object.")
@directory_option("a queue")
def put(
    name: str,
    value: str | None,
    key: str | None,
    delay: float,
    ttl: float | None,
    settings: tuple[str, ...],
    as_json: bool,
    data: Path,
) -> None:
    """Put VALUE into the queue NAME, or each line of stdin. The queue is made where there is none.

    Lines that come slowly are put as they come. What is put is on the disk when this returns (setting durability).

    \b
    Examples:
      logstore queue put jobs 'resize 4711.png'
      find . -name '*.png' | logstore queue put jobs --set max.deliveries=3
    """
    first: int | None = None
    count = 0
    with open_to_write(data) as store:
        jobs = store.queue(name, **_parse(settings))
        common: dict[str, Any] = {"delay": delay, "ttl": ttl}
        for values in [[os.fsencode(value)]] if value is not None else _lines(sys.stdin.buffer):
            keys = None if key is None else [os.fsencode(key)] * len(values)
            receipts = jobs.put_many(values, keys=keys, **common)
            first = receipts[0].offset if first is None else first
            count += len(receipts)
    if as_json:
        emit_json({"queue": name, "count": count, "first_offset": first})
    else:
        click.echo(f"put {count:,} {'message' if count == 1 else 'messages'} into {name}")


@queue.command()
@click.argument("name")
@click.option("--max", "count", type=click.IntRange(min=1), default=1, show_default=True, help="How many messages.")
@click.option("--timeout", type=float, default=0.0, metavar="SECONDS", help="How long to wait for each.")
@click.option("--ack/--no-ack", default=True, help="Whether each is settled once it is printed; else it comes again.")
@json_option()
@directory_option("a queue")
def get(name: str, count: int, timeout: float, ack: bool, as_json: bool, data: Path) -> int:
    """Take messages out of the queue NAME and print them. The exit status is 2 where there is none.

    A message is settled when it has been printed. With --no-ack it is ready again when this ends, and the delivery
    counts.

    \b
    Examples:
      logstore queue get jobs --max 10 --json
      logstore queue get jobs --timeout 60 --no-ack
    """
    found = 0
    with open_to_write(data, create=False) as store:
        jobs = _existing(store, name)
        try:
            while found < count:
                job = jobs.get(timeout=timeout)
                _show_message(job, as_json)
                sys.stdout.flush()  # what cannot be printed is not acked
                if ack:
                    job.ack()
                found += 1
        except Empty as error:
            if not found:
                click.echo(f"{error}", err=True)
                return WRONG_USE
    return 0


@queue.command()
@click.argument("name")
@click.option("--max", "count", type=click.IntRange(min=1), default=1, show_default=True, help="How many messages.")
@json_option()
@directory_option("a queue")
def peek(name: str, count: int, as_json: bool, data: Path) -> int:
    """Print the next messages of the queue NAME that are ready, and leave them there. Works beside a live owner.

    The exit status is 2 where there is none.

    \b
    Example:
      logstore queue peek jobs --max 10
    """
    with open_store(data, read_only=True) as store:
        _check_name(name, store.queues())
        found = store.queue(name).peek(count)
    for message in found:
        _show_message(message, as_json)
    if not found:
        click.echo(f"{Empty(name)}", err=True)
    return 0 if found else WRONG_USE


@queue.command("list")
@json_option("One JSON object a line for each queue.")
@directory_option("a queue")
def list_queues(as_json: bool, data: Path) -> None:
    """List the queues, a name a line: see `logstore queue stats` for what is in them. Works beside a live owner.

    \b
    Example:
      logstore queue list
    """
    with open_store(data, read_only=True) as store:
        names = store.queues()
    for name in names:
        if as_json:
            emit_json({"queue": name})
        else:
            click.echo(name)


@queue.command()
@click.argument("name", required=False)
@json_option("One JSON object a line for each queue.")
@directory_option("a queue")
def stats(name: str | None, as_json: bool, data: Path) -> None:
    """Count the messages of the queue NAME, or of all queues. Works beside a live owner.

    \b
    Example:
      logstore queue stats jobs --json
    """
    with open_store(data, read_only=True) as store:
        names = store.queues()
        if name is not None:
            _check_name(name, names)
            names = [name]
        found = [(one, store.queue(one).stats()) for one in names]
    if as_json:
        for one, counts in found:
            emit_json({"queue": one, **counts._asdict()})
    elif not found:
        click.echo("there are no queues")
    else:
        columns = ("queue", ">ready", ">delayed", ">in flight", ">blocked", ">dead", ">lost", ">oldest", ">disk")
        click.echo(show_table(columns, [_row(one, counts) for one, counts in found]))
        for one, counts in found:
            for damage in counts.damages:
                click.echo(f"{one}: messages may be handed out once more, for a note is lost: {damage}", err=True)


def _row(name: str, stats: QueueStats) -> list[str]:
    lost = sum(last - first + 1 for first, last in stats.lost)
    age = "-" if stats.oldest_age_s is None else f"{stats.oldest_age_s:,.0f} s"
    counts = stats.ready, stats.delayed, stats.in_flight, stats.blocked, stats.dead, lost
    return [name, *[f"{count:,}" for count in counts], age, show_size(stats.disk_bytes)]


@queue.command()
@click.argument("name")
@click.option("--max", "count", type=click.IntRange(min=1), help="How many; all where it is not given.")
@json_option()
@directory_option("a queue")
def dead(name: str, count: int | None, as_json: bool, data: Path) -> None:
    """List the dead letters of the queue NAME: messages that were got too often, or too late.

    Works beside a live owner.

    \b
    Example:
      logstore queue dead jobs
    """
    with open_store(data, read_only=True) as store:
        _check_name(name, store.queues())
        letters = store.queue(name).dead_letters
        found = list(islice(letters.messages(), count)) if letters is not None else []
    if as_json:
        for letter in found:
            emit_json(_json_message(letter))
    elif not found:
        click.echo(f"queue {name} has no dead letters")
    else:
        columns = (">offset", "since", "reason", ">deliveries", ">was at", "key", "value")
        click.echo(show_table(columns, [_dead_row(letter) for letter in found]))


def _dead_row(message: Message) -> list[object]:
    letter = message.dead_letter
    known: list[object] = ["-"] * 4
    if letter is not None:
        known = [show_time(letter.at_ms), letter.reason, letter.deliveries, letter.offset]
    return [message.offset, *known, show_bytes(message.key), show_bytes(message.record.value)]


@queue.command()
@click.argument("name")
@click.argument("offsets", type=int, nargs=-1)
@click.option("--all", "all_of_them", is_flag=True, help="All dead letters.")
@json_option("The summary as one JSON object.")
@directory_option("a queue")
def replay(name: str, offsets: tuple[int, ...], all_of_them: bool, as_json: bool, data: Path) -> None:
    """Put dead letters back into the queue NAME: those at OFFSETS, as `logstore queue dead` shows them, or --all.

    \b
    Examples:
      logstore queue replay jobs 3 4
      logstore queue replay jobs --all
    """
    if bool(offsets) == all_of_them:
        raise InvalidArgument("offsets", offsets, "name the offsets of dead letters, or else --all")
    with open_to_write(data, create=False) as store:
        count = _existing(store, name).dead_letters.replay(None if all_of_them else offsets)
    if as_json:
        emit_json({"queue": name, "count": count})
    else:
        click.echo(f"put {count:,} dead {'letter' if count == 1 else 'letters'} back into {name}")


_yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@queue.command()
@click.argument("name")
@click.option("--dead", is_flag=True, help="The dead letters, and nothing else.")
@_yes_option
@json_option("The summary as one JSON object.")
@directory_option("a queue")
def purge(name: str, dead: bool, yes: bool, as_json: bool, data: Path) -> None:
    """Settle all messages of the queue NAME, so that none is got any more. The queue and its settings stay.

    Asks first; where there is no terminal to ask at, --yes must be given.

    \b
    Examples:
      logstore queue purge jobs --yes
      logstore queue purge jobs --dead
    """
    with open_to_write(data, create=False) as store:
        jobs = _existing(store, name)
        what = f"the {'dead letters' if dead else 'messages'} of queue {name}"
        _ask(yes, f"purge {what}?", f"{what} are not purged unasked")
        count = (jobs.dead_letters if dead else jobs).purge()
    if as_json:
        emit_json({"queue": name, "count": count})
    else:
        click.echo(f"purged {count:,} {'message' if count == 1 else 'messages'}")


@queue.command()
@click.argument("name")
@_yes_option
@directory_option("a queue")
def delete(name: str, yes: bool, data: Path) -> None:
    """Delete the queue NAME with all its messages and dead letters. Asks first; where there is no terminal to ask at,
    --yes must be given.

    \b
    Example:
      logstore queue delete jobs --yes
    """
    with open_to_write(data, create=False) as store:
        _check_name(name, store.queues())
        _ask(
            yes, f"delete queue {name} with all its messages and dead letters?", f"queue {name} is not deleted unasked"
        )
        store.delete_queue(name)
    click.echo(f"deleted {name}")


# ------------------------------------------------------------------------------------------------------------- helpers


def _ask(yes: bool, question: str, refusal: str) -> None:
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"{refusal}: give --yes where there is no terminal")
        click.confirm(question, abort=True, err=True)


def _existing(store: Store, name: str) -> Queue:
    _check_name(name, store.queues())
    return store.queue(name)


def _check_name(name: str, names: list[str]) -> None:
    if name not in names:
        known = f"the queues are {', '.join(names)}" if names else "there are none"
        raise InvalidArgument("queue", name, f"there is no such queue: {known}")


def _parse(settings: tuple[str, ...]) -> dict[str, Any]:
    pairs = [text.partition("=") for text in settings]
    for name, separator, _ in pairs:
        if not separator:
            raise InvalidArgument("--set", name, "give NAME=VALUE, such as max.deliveries=3")
    return {name.strip(): value for name, _, value in pairs}


def _lines(file: BinaryIO) -> Iterator[list[bytes]]:
    """Lines as they come, without their line feeds."""
    read = getattr(file, "read1", file.read)
    rest = b""
    while chunk := read(_READ_SIZE):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def _show_message(message: Message, as_json: bool) -> None:
    if as_json:
        emit_json(_json_message(message))
    else:
        click.echo(message.record.value or b"")


def _json_message(message: Message) -> dict[str, Any]:
    headers = [{"key": key, **json_bytes("value", value)} for key, value in message.headers]
    letter = message.dead_letter
    return {
        "offset": message.offset,
        "timestamp_ms": message.timestamp_ms,
        "deliveries": message.deliveries,
        **json_bytes("key", message.key),
        **json_bytes("value", message.record.value),
        "headers": headers,
        **({} if letter is None else {"dead_letter": {**letter._asdict(), "topic_id": str(letter.topic_id)}}),
    }
