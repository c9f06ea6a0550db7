"""The disks that a power cut may leave, by what had been synced when it came.

- A file's sectors that were written and not synced are each as they were at any moment since the last sync; so is its
  size. What a size leaves unwritten is zeros.
- Names that were made, changed or removed in a directory and not synced are each so or not; a rename is one change.
- Nothing is said of the order between files, nor between a file and its name.

A ``Disk`` follows a trace call by call. ``states`` gives every legal disk where these are few, else a sample: those
where all or nothing was kept, those where one file or name alone differs from these, and others by chance, by seed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from random import Random
from typing import TypeVar

from disk_trace import ROOT, Call, Link, Resize, Sync, SyncDir, Tree, Unlink, Write
from logstore.format import filename

SECTOR_SIZE = 512
# Whatever is kept of these makes no difference: what they say is of the process that is over.
_INDIFFERENT_NAMES = (filename.LOCK,)
_CHOICES_MAX = 600  # for one file, and for all names, before choices are sampled


@dataclass
class States:
    """``legal`` counts the choices that there are, some of which make the same disk; ``is_complete``: all are here."""

    disks: Iterator[Tree]
    legal: int
    is_complete: bool


class Disk:
    """What is durable, and what may be."""

    def __init__(self, before: Tree) -> None:
        self._durable = before.copy()
        self._writes: dict[int, list[tuple[int, Write | Resize]]] = {}
        self._changes: list[tuple[int, Link | Unlink]] = []
        self._indifferent = {number for name, number in before.directories[ROOT].items() if name in _INDIFFERENT_NAMES}
        self._moment = 0

    def follow(self, call: Call) -> None:
        if not self._follow_indifferent(call):
            self._follow(call)
        self._moment += 1

    def _follow_indifferent(self, call: Call) -> bool:
        """Whether it is a call that is kept at once, since nobody could tell the difference."""
        match call:
            case Link(directory, name, inode) if directory == ROOT and name in _INDIFFERENT_NAMES:
                self._indifferent.add(inode)
                self._durable.contents.setdefault(inode, b"")
                self._durable.directories = _changed(self._durable.directories, [call])
            case Write(inode) | Resize(inode) if inode in self._indifferent:
                self._durable.contents[inode] = _written(self._durable.contents[inode], call)
            case _:
                return False
        return True

    def _follow(self, call: Call) -> None:
        match call:
            case Write(inode) | Resize(inode):
                self._writes.setdefault(inode, []).append((self._moment, call))
            case Link() | Unlink():
                self._changes.append((self._moment, call))
                if isinstance(call, Link) and call.old is None:
                    self._add(call)
            case Sync(inode, until):
                writes = self._writes.pop(inode, [])
                for moment, write in writes:
                    if moment < until:
                        self._durable.contents[inode] = _written(self._durable.contents[inode], write)
                self._writes[inode] = [item for item in writes if item[0] >= until]
            case SyncDir(directory, until):
                done = [item for item in self._changes if item[0] < until and directory in _directories(item[1])]
                self._changes = [item for item in self._changes if item not in done]
                self._durable.directories = _changed(self._durable.directories, [change for _, change in done])

    def _add(self, made: Link) -> None:
        """What has just been made is empty; whether it has its name is another question."""
        if made.is_directory:
            self._durable.directories[made.inode] = {}
        else:
            self._durable.contents[made.inode] = b""

    # ------------------------------------------------------------------------------------------------------ choices

    def kept(self) -> Tree:
        """Everything, synced or not: what is found when only the process died."""
        tree = self._durable.copy()
        tree.directories = _changed(tree.directories, [change for _, change in self._changes])
        for inode, writes in self._writes.items():
            for _, write in writes:
                tree.contents[inode] = _written(tree.contents[inode], write)
        return tree

    def states(self, count_max: int, random: Random) -> States:
        """Legal disks, at most ``count_max`` of them."""
        directories, legal = _directory_choices(
            self._durable.directories, [change for _, change in self._changes], random
        )
        legal_counts = [legal]
        contents = {}
        for inode, writes in self._writes.items():
            if writes:
                before = self._durable.contents[inode]
                contents[inode], legal = _content_choices(before, [write for _, write in writes], random)
                legal_counts.append(legal)
        choices: list[Sequence[object]] = [directories, *contents.values()]
        fits = prod(map(len, choices)) <= count_max
        picked = product(*map(range, map(len, choices))) if fits else _sample(choices, random)

        def build(picks: Sequence[int]) -> Tree:
            versions = {inode: options[pick] for (inode, options), pick in zip(contents.items(), picks[1:])}
            return Tree(directories[picks[0]], {**self._durable.contents, **versions})

        is_complete = fits and all(len(options) >= legal for options, legal in zip(choices, legal_counts))
        return States((build(picks) for picks in islice(picked, count_max)), prod(legal_counts), is_complete)


Directories = dict[int, dict[str, int]]
Item = TypeVar("Item")


def _directories(change: Link | Unlink) -> set[int]:
    old = change.old if isinstance(change, Link) else None
    return {change.directory} if old is None else {change.directory, old[0]}


def _written(content: bytes, call: Write | Resize) -> bytes:
    if isinstance(call, Resize):
        return content[: call.size].ljust(call.size, b"\0")
    padded = content.ljust(call.position, b"\0")
    return padded[: call.position] + call.data + padded[call.position + len(call.data) :]


def _changed(directories: Directories, changes: Sequence[Link | Unlink]) -> Directories:
    changed = {number: dict(names) for number, names in directories.items()}
    for change in changes:
        names = changed[change.directory]
        if isinstance(change, Unlink):
            names.pop(change.name, None)
            continue
        if change.old is not None and changed[change.old[0]].get(change.old[1]) == change.inode:
            del changed[change.old[0]][change.old[1]]
        names[change.name] = change.inode
    return changed


def _directory_choices(
    directories: Directories, changes: Sequence[Link | Unlink], random: Random
) -> tuple[list[Directories], int]:
    """By subsets of the changes, all where they are few; the last has them all, the first none. And how many there
    are."""
    everything = (1 << len(changes)) - 1
    if everything < _CHOICES_MAX:
        masks = list(range(everything + 1))
    else:
        prefixes = [(1 << count) - 1 for count in range(len(changes) + 1)]
        without_one = [everything ^ (1 << index) for index in range(len(changes))]
        only_one = [1 << index for index in range(len(changes))]
        masks = [*prefixes, *without_one, *only_one, *(random.randint(0, everything) for _ in range(8)), everything]
    subsets = ([change for i, change in enumerate(changes) if mask >> i & 1] for mask in masks)
    found = _distinct([_changed(directories, subset) for subset in subsets])
    return found, len(found) if everything < _CHOICES_MAX else everything + 1


def _content_choices(content: bytes, writes: Sequence[Write | Resize], random: Random) -> tuple[list[bytes], int]:
    """By sector and size; the last has all writes, the first none. And how many there are."""
    history = [content]
    for write in writes:
        history.append(_written(history[-1], write))
    sizes = _distinct([len(content) for content in history])
    longest = -(-max(sizes) // SECTOR_SIZE) * SECTOR_SIZE
    sectors = [
        _distinct([content[at : at + SECTOR_SIZE].ljust(SECTOR_SIZE, b"\0") for content in history])
        for at in range(0, longest, SECTOR_SIZE)
    ]
    choices: list[Sequence[object]] = [sizes, *sectors]
    legal = prod(map(len, choices))
    if legal <= _CHOICES_MAX:
        picked: Iterator[Sequence[int]] = product(*map(range, map(len, choices)))
    else:
        picked = islice(_sample(choices, random), _CHOICES_MAX)
    torn = [
        b"".join(versions[pick] for versions, pick in zip(sectors, picks[1:]))[: sizes[picks[0]]] for picks in picked
    ]
    found = _distinct([content, *history, *torn, history[-1]])
    return found, len(found) if legal <= _CHOICES_MAX else legal


def _sample(choices: Sequence[Sequence[object]], random: Random) -> Iterator[Sequence[int]]:
    """Nothing kept, all kept; one alone kept, one alone not, or in between; and then any, without end."""
    none, everything = [0] * len(choices), [len(options) - 1 for options in choices]
    yield none
    yield everything
    singles = []
    for base in (none, everything):
        for index, options in enumerate(choices):
            singles += [
                [*base[:index], pick, *base[index + 1 :]] for pick in range(len(options)) if pick != base[index]
            ]
    random.shuffle(singles)
    yield from singles
    while True:
        yield [random.randrange(len(options)) for options in choices]


def _distinct(items: Sequence[Item]) -> list[Item]:
    found: list[Item] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found
