"""Which topics members of consumer groups read: by name, and by patterns of names."""

from collections.abc import Iterable, Mapping

from logstore.format.group_records import KnownTopic, MemberMetadata
from logstore.groups.consumer.topic_pattern import topic_pattern

_INTERNAL_PREFIX = "__"  # topics that no pattern finds


def wanted_topics(metadata: MemberMetadata, topics: Mapping[str, KnownTopic]) -> frozenset[str]:
    """Of ``topics`` those that a member reads."""
    named = frozenset(topic for topic in metadata.topics if topic in topics)
    if not metadata.regex:
        return named
    candidates = (name for name in topics if not name.startswith(_INTERNAL_PREFIX))
    return named | topic_pattern(metadata.regex).matching(candidates)


def known_topics(members: Iterable[MemberMetadata], topics: Mapping[str, KnownTopic]) -> dict[str, KnownTopic]:
    """Of ``topics`` those that anybody reads."""
    subscriptions = {(metadata.topics, metadata.regex): metadata for metadata in members}
    wanted = frozenset().union(*(wanted_topics(metadata, topics) for metadata in subscriptions.values()))
    return {name: topics[name] for name in sorted(wanted)}
