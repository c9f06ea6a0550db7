"""Regular expressions for topics: as Python's own match them, and in a time that no expression can blow up."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.errors import InvalidTopicPattern
from logstore.groups.consumer.topic_pattern import TopicPattern

NAMES = [
    "",
    "a",
    "b",
    "aa",
    "ab",
    "aab",
    "abab",
    "orders",
    "orders-1",
    "orders.eu",
    "x_9",
    "-",
    "a-b",
    "ba",
    "bbb",
    "9",
]
PATTERNS = [
    *("", "a", ".*", ".+", "a*", "a+b?", "a|b", "(a|b)*", "(?:ab)+", "^a.*", "^orders.*$", "orders[-.](1|eu)", "a{2}"),
    *(
        "a{1,2}b",
        "(ab){2,}",
        "(a|b){0,2}",
        "a{0}b",
        "[^a]*",
        "[a-c]+",
        "[-a]+",
        "[]a]",
        "[a\\-b]+",
        "\\w+",
        "\\W",
        "\\d",
    ),
    *(
        "x_\\d",
        "orders\\.eu",
        "a??b",
        "a*?b",
        "(a*)*",
        "(a|aa)+b",
        "a|",
        "()",
        "(^a|b)b",
        "a$|b",
        "[\\d_x]+",
        "^$",
        "b{3}",
    ),
    *("^$", "b{3}", "(a?){3}", "(a+)+b", "[^\\w]", "a^b", "$a", "(b|a{2}){1,}", "a{0,}", "(?:a|)b"),
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_names_match_as_with_pythons_own(pattern: str) -> None:
    ours = TopicPattern(pattern)
    assert [name for name in NAMES if ours.matches(name)] == [
        name for name in NAMES if re.fullmatch(pattern, name, re.ASCII)
    ]


expressions = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "\\w"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]}|{parts[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,1}", "{2,}"])).map(
            lambda parts: f"({parts[0]}){parts[1]}"
        ),
    ),
    max_leaves=8,
)


@given(expressions, st.lists(st.text("abc", max_size=6), max_size=8))
def test_whatever_is_made_of_these_parts_matches_as_with_pythons_own(pattern: str, names: list[str]) -> None:
    ours, theirs = TopicPattern(pattern), re.compile(pattern, re.ASCII)
    for name in names:
        assert ours.matches(name) == (theirs.fullmatch(name) is not None)


@pytest.mark.parametrize(
    "pattern",
    [
        *("(", ")", "a)", "(a", "[a", "[", "[z-a]", "*", "+a", "a**", "a{", "a{2", "a{x}", "a{2,1}", "a{9999}", "\\"),
        *(
            "(?=a)",
            "(?!a)",
            "(?P<x>a)",
            "(?i)a",
            "\\1",
            "\\b",
            "(a)\\1",
            "(((a{1000}){1000}){1000})",
            "(" * 200 + ")" * 200,
        ),
        *("{2}", "a|*", "[a-\\d]", "a{2}{3}", "x" * 20_000),
    ],
)
def test_what_is_no_expression_or_cannot_be_matched_in_linear_time_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidTopicPattern):
        TopicPattern(pattern)


def test_expressions_that_blow_up_others_do_not_blow_up_this_one() -> None:
    name = "a" * 249
    assert not TopicPattern("(a+)+b").matches(name)
    assert not TopicPattern("(a|a)*b").matches(name)
    assert TopicPattern("(a?){100}a{100}.*").matches(name)


def test_a_range_of_all_characters_there_are_costs_no_more_than_those_that_names_have() -> None:
    pattern = TopicPattern("[\0-\U0010ffff]{100}")
    assert max(len(by) for steps in pattern._steps for by, _ in steps if isinstance(by, frozenset)) == 128
    assert pattern.matches("a" * 100) and not pattern.matches("a" * 99)


def test_an_expression_that_takes_many_steps_for_each_of_thousands_of_long_names_finds_no_more_of_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    letters = random.Random(0)
    names = ["".join(letters.choices("ab", k=249)) for _ in range(2_000)]
    costly = TopicPattern("(a|b)*a(a|b){900}")
    assert costly.matching(["a" * 200, *names]) == frozenset()
    assert "takes too many steps" in caplog.text
    assert sum(len(kept) for kept in costly._kept) < 100_000  # nor is all kept that was found


def test_thousands_of_names_take_no_more_steps_than_some(caplog: pytest.LogCaptureFixture) -> None:
    names = [f"com.example.team.topic-{number}" for number in range(10_000)]
    wanted = names[::100]
    assert TopicPattern("|".join(wanted)).matching(names) == set(wanted)
    assert TopicPattern(".*(team|crew).[a-z]+-\\d*7").matching(names) == {name for name in names if name.endswith("7")}
    assert not caplog.text
