"""``logstore retention``: why segments are still there, and when they go."""

from pathlib import Path

import click

from logstore.cli.options import data_option, emit_json, json_option
from logstore.cli.text import show_size, show_table, show_time
from logstore.client.embedded.store import open as open_store
from logstore.groups.stored_groups import StoredGroups
from logstore.storage import retention as rules
from logstore.storage.owned_log import wall_clock_ms


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def retention() -> None:
    """Why segments are still there, and when they go.

    \b
    Example:
      logstore retention explain orders
    """


@retention.command()
@click.argument("topic", required=False)
@json_option("One JSON object a line for each segment.")
@data_option
def explain(topic: str | None, as_json: bool, data: Path) -> None:
    """Say for each segment of TOPIC, or of all topics, why it is still there and when it goes.

    It works beside a live writer and changes nothing. A segment that goes now does so at the owner's next check, which
    is every log.retention.check.interval.ms.

    \b
    Examples:
      logstore retention explain orders
      logstore retention explain --data /var/lib/app/data --json
    """
    now_ms = wall_clock_ms()
    with open_store(data, read_only=True) as store:
        topics = [store.topic(topic)] if topic is not None else store.topics()
        groups = store.groups if any(found.config.drops_consumed for found in topics) else StoredGroups({})
        for found in topics:
            for number in range(found.partitions):
                log = store.log(found.name, number)
                view = log.view
                explanations = rules.explain(
                    view.segment_infos(),
                    found.config,
                    now_ms,
                    log_start_offset=view.log_start_offset,
                    high_watermark=view.log_end_offset,
                    committed=groups.committed_of(found.name, number),
                )
                if as_json:
                    for explanation in explanations:
                        emit_json(_as_json(found.name, number, explanation))
                else:
                    _show(f"{found.name} {number}", explanations, now_ms)


def _show(title: str, explanations: list[rules.Explanation], now_ms: int) -> None:
    rows = []
    for segment, _, due_ms, why in explanations:
        goes = "stays" if due_ms is None else "now" if due_ms <= now_ms else show_time(due_ms)
        active = "  active" if segment.is_active else ""
        rows.append((segment.base_offset, segment.next_offset, show_size(segment.size_bytes), goes, why + active))
    click.echo(show_table((">from", ">to", ">size", "goes", "why"), rows, title))


def _as_json(topic: str, partition: int, explanation: rules.Explanation) -> dict[str, object]:
    fields = {"due_ms": explanation.due_ms, "reason": explanation.reason, "why": explanation.why}
    return {"topic": topic, "partition": partition, **explanation.segment._asdict(), **fields}
