"""Batches of few static shapes: several texts share a row, so that little of a batch is padding."""

from __future__ import annotations

import bisect
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from brainalign_jax.language.text import predicted_tokens
from brainalign_jax.language.text.contexts import Sequences
from brainalign_jax.language.text.predicted_tokens import Scored

_SHORT = 128  # texts of up to so many sub-tokens share one shape
_SAMPLE = 2000  # lengths looked at to choose a row's length
_ATTENTION_SHARE = 0.1 / 64 * 768  # of a block's cost, a sub-token of the row and over the width


class Batch(NamedTuple):
    """Texts side by side in rows of T sub-tokens, and what is pooled from them.

    ids: [B, T] int32; text: [B, T] int32, which text of its row a sub-token belongs to, from 1; 0 is
    padding; position: [B, T] int32, its place in its text. token, row: [K] int32 and weight: [K]
    float32: sub-token `token` of the B x T adds `weight` times its state to `row` of the result. The
    weights of a row sum to one over all batches. n_words: how many words it finishes; shared: whether
    rows of this shape hold several texts. scored: int32, `place` counts over the B x T; only where
    it was asked for.
    """

    ids: np.ndarray
    text: np.ndarray
    position: np.ndarray
    token: np.ndarray
    row: np.ndarray
    weight: np.ndarray
    n_words: int
    shared: bool
    scored: Scored | None = None


class Plan(NamedTuple):
    """How texts are laid out. shape: (B, T) of a batch; rows: for each batch its rows, each a list of
    indices of sequences; shared: whether any row of this shape holds several."""

    shape: tuple[int, int]
    rows: list[list[int]]
    shared: bool


class Packing:
    """The batches of a set of sequences; made one at a time, in an order that never changes.

    sequences: of one tokenizer; counts: [rows] how many words each row of the result is the mean of,
    token_to_row: [words of the stimulus]; pooling: "mean", "first" or "last" sub-token of a word;
    batch_tokens: about how many sub-tokens a batch holds; width: of the model, which says how dear
    long rows are. `pack=False` gives every text a row of its own. score: whether the batches name
    the sub-tokens that make up the surprisal of the words.
    """

    def __init__(
        self,
        sequences: Sequences,
        token_to_row: np.ndarray,
        *,
        pooling: str,
        batch_tokens: int,
        width: int = 768,
        pad_id: int = 0,
        pack: bool = True,
        score: bool = False,
    ):
        self.sequences, self.pooling, self.pad_id = sequences, pooling, pad_id
        lengths = np.array([len(ids) for ids in sequences.ids], np.int64)
        self.plans = list(_plans(lengths, batch_tokens, width, pack))
        self.n_tokens = int(lengths.sum())
        self._pairs = sub_tokens_of(sequences, token_to_row, pooling)
        self.n_words = sum(words for *_, words in self._pairs)
        self.n_presented = len(token_to_row)
        self._scored = predicted_tokens.predicted_in(sequences) if score else None
        self._n_scored: dict[tuple[int, int], int] = {}
        for plan in self.plans if score else ():
            count = sum(len(self._scored[member].row) for row in plan.rows for member in row)
            most = max(self._n_scored.get(plan.shape, 1), count)
            self._n_scored[plan.shape] = most

    def __len__(self) -> int:
        return len(self.plans)

    @property
    def shapes(self) -> set[tuple[int, int]]:
        """The shapes (B, T) of the batches: as many programs are compiled."""
        return {plan.shape for plan in self.plans}

    @property
    def padding(self) -> float:
        """Share of all positions that hold no sub-token."""
        positions = sum(rows * time for rows, time in (plan.shape for plan in self.plans))
        return 1 - self.n_tokens / positions

    def digest(self) -> str:
        """SHA-256 (hex) of what is read, in which batches."""
        digest = hashlib.sha256(json.dumps(self.plans).encode())
        for ids in self.sequences.ids:
            digest.update(np.ascontiguousarray(ids, "<i4"))
        return digest.hexdigest()

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """The batches from number `start` on, up to `stop`."""
        for plan in self.plans[start:stop]:
            yield self._batch(plan)

    def _batch(self, plan: Plan) -> Batch:
        shape, time = plan.shape, plan.shape[1]
        ids = np.full(shape, self.pad_id, np.int32)
        text, position = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        token, row, weight, n_words = [], [], [], 0
        starts: list[tuple[int, int]] = []
        for line, members in enumerate(plan.rows):
            start = 0
            for number, member in enumerate(members, 1):
                stop = start + len(self.sequences.ids[member])
                ids[line, start:stop] = self.sequences.ids[member]
                text[line, start:stop] = number
                position[line, start:stop] = np.arange(stop - start)
                tokens, rows, weights, words = self._pairs[member]
                token.append(tokens + (line * time + start))
                row.append(rows)
                weight.append(weights)
                starts.append((member, line * time + start))
                n_words += words
                start = stop
        size = shape[0] * time
        needed = sum(map(len, token))
        while size < needed:
            size *= 2
        order = np.argsort(np.concatenate(row), kind="stable")
        return Batch(
            ids,
            text,
            position,
            _padded(np.concatenate(token)[order], size, np.int32),
            _padded(np.concatenate(row)[order], size, np.int32),
            _padded(np.concatenate(weight)[order], size, np.float32),
            n_words,
            plan.shared,
            None if self._scored is None else self._scored_of(shape, starts),
        )

    def _scored_of(self, shape: tuple[int, int], starts: list[tuple[int, int]]) -> Scored:
        """What is scored of the sequences (member, start in the B x T), padded with what is
        scored for no word: a row beyond the last."""
        parts = [
            (at + scored.place, scored.target, scored.row)
            for m, at in starts
            for scored in [self._scored[m]]
        ]
        joined = np.concatenate(parts, axis=1)
        padded = np.zeros((3, self._n_scored[shape]), np.int32)
        padded[2] = self.n_presented
        padded[:, : joined.shape[1]] = joined
        return Scored(*padded)


def _padded(values: np.ndarray, size: int, dtype) -> np.ndarray:
    # Rows stay in order: what is added behind the last row adds nothing to it.
    fill = values[-1] if dtype == np.int32 and len(values) else 0
    out = np.full(size, fill, dtype)
    out[: len(values)] = values
    return out


def sub_tokens_of(sequences: Sequences, token_to_row: np.ndarray, pooling: str) -> list[tuple]:
    """What is pooled: for every sequence (token [k], row [k], weight [k], number of words that end in it)."""
    counts = np.bincount(token_to_row[token_to_row >= 0]).tolist()
    row_of = token_to_row.tolist()
    by_sequence: list[tuple[list, list, list]] = [([], [], []) for _ in sequences.ids]
    words = [0] * len(sequences.ids)

    def add(member: int, owners: tuple[int, ...], tokens: tuple[int, ...], share: float) -> None:
        if len(owners) == 1:  # nearly always: no need to count
            rows = ((row_of[owners[0]], 1),)
        else:
            rows = Counter(row_of[owner] for owner in owners).items()
        token, row_at, weight = by_sequence[member]
        for row, times in rows:
            token += tokens
            row_at += [row] * len(tokens)
            weight += [times / counts[row] * share] * len(tokens)

    for member, targets in enumerate(sequences.targets):
        for owners, tokens in targets:
            chosen = {"mean": tokens, "first": tokens[:1], "last": tokens[-1:]}[pooling]
            add(member, owners, chosen, 1 / len(chosen))
            words[member] += len(owners)
    for owners, pieces in sequences.split:
        whole = [(member, token) for member, tokens in pieces for token in tokens]
        chosen = {"mean": whole, "first": whole[:1], "last": whole[-1:]}[pooling]
        for member, token in chosen:
            add(member, owners, (token,), 1 / len(chosen))
        words[pieces[-1][0]] += len(owners)
    return [
        (np.array(token, np.int64), np.array(row, np.int64), np.array(weight), count)
        for (token, row, weight), count in zip(by_sequence, words, strict=True)
    ]


def _plans(lengths: np.ndarray, batch_tokens: int, width: int, pack: bool) -> Iterator[Plan]:
    # One class of short texts, then one for each doubling: each has one shape.
    classes = np.maximum(0, np.ceil(np.log2(np.maximum(lengths, 1) / _SHORT))).astype(int)
    for number in np.unique(classes):
        members = np.flatnonzero(classes == number)
        members = members[np.argsort(-lengths[members], kind="stable")]
        longest = int(lengths[members[0]])
        if pack:
            time = _row_length(lengths[members], longest, width)
            rows = _fill(lengths[members], time)
        else:
            time, rows = _rounded(longest), [[place] for place in range(len(members))]
        most = min(len(rows), max(1, batch_tokens // time))
        # The largest number of rows, not under half of what fits, that leaves fewest rows empty.
        size = min(range(most, (most - 1) // 2, -1), key=lambda size: -len(rows) % size)
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            texts = [[int(members[i]) for i in row] for row in chosen]
            yield Plan((size, time), texts, len(rows) < len(members))


def _rounded(value: int) -> int:
    """The next of the numbers that lie eight to the doubling; up to 16 every integer."""
    step = 1
    while step * 16 < value:
        step *= 2
    return -(-value // step) * step


def _row_length(lengths: np.ndarray, longest: int, width: int) -> int:
    """The row's length that costs least: padding against attention, which grows with it."""
    sample = lengths[:: -(-len(lengths) // _SAMPLE)]
    times = [_rounded(max(longest, 8))]
    while times[-1] < min(max(2 * longest, 2 * _SHORT), sample.sum()):
        times.append(_rounded(times[-1] + 1))

    def cost(time: int) -> float:
        return len(_fill(sample, time)) * time * (1 + _ATTENTION_SHARE / width * time)

    return min(times, key=cost)


def _fill(lengths: np.ndarray, time: int) -> list[list[int]]:
    """Rows of at most `time`: each text, longest first, goes where it leaves the least room."""
    rows: list[list[int]] = []
    room: dict[int, list[int]] = {}
    rooms: list[int] = []  # the keys of `room`, in order
    for place, length in enumerate(lengths.tolist()):
        at = bisect.bisect_left(rooms, length)
        if at == len(rooms):
            left, row = time, len(rows)
            rows.append([])
        else:
            left = rooms[at]
            row = room[left].pop()
            if not room[left]:
                del room[left], rooms[at]
        rows[row].append(place)
        left -= length
        if left not in room:
            room[left] = []
            bisect.insort(rooms, left)
        room[left].append(row)
    return rows
