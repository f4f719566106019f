"""A space that the people of all languages share: the same columns, or rotations learnt from other sections.

People who heard a story in different languages have no word in common. They have its sections: what is told
after a tenth of a section is told after about a tenth of it in every language. Each person's responses are
averaged over parts of equal time, and rotated so that the parts of the people of a language come to lie
together, then those of all languages; a tested section has no say in the rotations that move its words.

Two maps that have nothing to do with one another agree a little by chance, and would do so with ever more
words and people. So a draw of the null distribution turns the space of the tested people, its principal axes
at random among those of like variance, by the same turn whatever is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from brainalign_jax.align.procrustes import hyperalignment
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.studies.languages.sections import Text, centred_by_section
from brainalign_jax.study.computation import compiled

_BYTES = 2**34  # of all people's responses together
_TURN_BYTES = 2**31  # of a language's draws
_LEAST_COLUMNS = 2
_BLOCK = 4096  # columns at a time
_ALIKE = 4  # principal axes that are turned among one another


class Placed(NamedTuple):
    """Responses in the shared space where a section is tested.

    rows: [P, n, V] of each language. turns: [1 + B, V, V] of each one's space, the identity and then draws.
    """

    rows: list[np.ndarray]
    turns: list[np.ndarray]


class Columns:
    """The columns that all people have, or their largest principal axes; the same whatever is tested.

    Each column of a person is about the mean of each section, in its standard deviation over all of them.
    """

    kind = "columns"

    def __init__(self, texts: list[Text], values: list[np.ndarray], n_axes: int):
        """values: [P, n, V] of each language."""
        self._rows = [
            np.stack([_scaled(person, text) for person in own])
            for text, own in zip(texts, values, strict=True)
        ]
        if self._rows[0].shape[2] > n_axes:
            means = np.concatenate([own.mean(axis=0) for own in self._rows])
            axes = principal_axes(means.astype(np.float64), n_axes).astype(np.float32)
            self._rows = [own @ axes for own in self._rows]
        self._turns: list[np.ndarray] = []

    def placed(self, section: int, n_draws: int, seed: int) -> Placed:
        """The responses, with draws that are the same for all sections."""
        if not self._turns:
            self._turns = [
                axis_turns(own, n_draws, np.random.default_rng((seed, place)))
                for place, own in enumerate(self._rows)
            ]
        return Placed(self._rows, self._turns)


def principal_axes(rows: np.ndarray, n_axes: int) -> np.ndarray:
    """The largest principal axes [V, R] of rows [N, V]."""
    if rows.shape[1] <= len(rows):
        return np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :n_axes]
    variances, vectors = np.linalg.eigh(rows @ rows.T)
    variances, vectors = variances[::-1][:n_axes], vectors[:, ::-1][:, :n_axes]
    kept = variances > 1e-10 * variances[0]
    return rows.T @ vectors[:, kept] / np.sqrt(variances[kept])


def axis_turns(rows: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """The identity, then turns [1 + B, V, V] of the space of rows [P, n, V]: at random, among _ALIKE
    neighbouring principal axes at a time, in units of their standard deviations. All covariances of the
    rows stay as they are.

    Raises: ValueError for more turns than can be held.
    """
    if 4 * (1 + n_draws) * rows.shape[2] ** 2 > _TURN_BYTES:
        raise ValueError(
            f"n_nulls={n_draws} turns of {rows.shape[2]} axes take more than {_TURN_BYTES >> 30} GiB a "
            "language: lower --n_nulls or --n_axes"
        )
    flat = rows.reshape(-1, rows.shape[2]).astype(np.float64)
    variances, axes = (part[..., ::-1] for part in np.linalg.eigh(flat.T @ flat))
    units = (
        np.sqrt(np.maximum(variances, 1e-10 * variances[0])) if variances[0] > 0 else variances + 1
    )
    width = axes.shape[1]
    turns = np.tile(np.eye(width, dtype=np.float32), (1 + n_draws, 1, 1))
    for start in range(0, width, _ALIKE):
        size = min(_ALIKE, width - start)
        q, r = np.linalg.qr(rng.standard_normal((n_draws, size, size)))
        signs = np.sign(np.diagonal(r, axis1=1, axis2=2))
        turns[1:, start : start + size, start : start + size] = q * signs[:, None, :]
    turns[1:] = (axes / units).astype(np.float32) @ turns[1:] @ (axes * units).T.astype(np.float32)
    return turns


class Parts(NamedTuple):
    """What hyperalignment needs of one person: inner products of the parts [K, K], and of the words with
    them [n, K]."""

    products: np.ndarray
    of_words: np.ndarray


class Hyperaligned:
    """Rotations of people's responses that the sections which are not tested have taught."""

    kind = "hyperaligned"

    def __init__(
        self, texts: list[Text], people: list[list[Parts]], part_section: np.ndarray, n_axes: int
    ):
        """people: for each language the parts of each person; part_section: [K] of all of them."""
        self.texts, self.people, self.part_section = texts, people, part_section
        self.n_axes = n_axes
        self._first: Placed | None = None

    def placed(self, section: int, n_draws: int, seed: int) -> Placed:
        """Responses in a space to which the section has not contributed.

        Draws are made where the first section is tested, and carried over to the space of each other one by
        the rotation between the two: turns that differed from section to section would even out.
        """
        responses, rotations = self._fitted(section)
        rows = [
            np.stack([_evened(person, text, section) for person in own @ rotation])
            for text, own, rotation in zip(self.texts, responses, rotations, strict=True)
        ]
        if self._first is None:
            turns = [
                axis_turns(own, n_draws, np.random.default_rng((seed, place)))
                for place, own in enumerate(rows)
            ]
            self._first = Placed(rows, turns)
        turns = []
        for own, first, drawn in zip(rows, *self._first, strict=True):
            width = own.shape[2]
            carried = _rotation(own.reshape(-1, width), first.reshape(-1, width)).astype(np.float32)
            turns.append(carried @ drawn @ carried.T)
        return Placed(rows, turns)

    def _fitted(self, section: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """For each language responses [P, n, R] in a space of its own, and the rotation [R, R] from it to the
        one of all."""
        trained = self.part_section != section
        width = max(2, min(self.n_axes, int(trained.sum()) // 3))
        responses, templates = [], []
        for people in self.people:
            projected = [_principal(parts, trained, width) for parts in people]
            sources = np.stack([scores for scores, _ in projected]).astype(np.float32)
            words = np.stack([own for _, own in projected])
            if len(people) > 1:
                fitted = _fit(sources, np.ones(len(sources[0]), np.float32))
                words = words @ np.asarray(fitted.rotation, np.float64)
                sources = np.asarray(fitted.template, np.float64)[None]
            responses.append(words)
            templates.append(sources[0].astype(np.float64))
        together = _fit(
            np.stack(templates).astype(np.float32), np.ones(len(templates[0]), np.float32)
        )
        return responses, list(np.asarray(together.rotation, np.float64))


_fit = compiled(hyperalignment.fit)


def shared_space(
    texts: Sequence[Text], kind: str, *, n_bins: int, n_axes: int
) -> Columns | Hyperaligned:
    """The space that `kind` asks for: "columns", "hyperaligned", or "auto", columns where all have the same.

    Raises: ValueError naming the data sets whose columns differ, or a section that has too few words.
    """
    first = [text.dataset.load(text.dataset.subjects[0]) for text in texts]
    names = _common_names(first)
    same = len(names) >= _LEAST_COLUMNS or _same_places(first)
    if kind == "columns" and not same:
        sizes = " and ".join(str(responses.values.shape[1]) for responses in first[:2])
        raise ValueError(
            f"{texts[0].dataset.name} ({texts[0].language}) and {texts[1].dataset.name} "
            f"({texts[1].language}) share no columns: they have {sizes}, of other names and places; read "
            "both with the same atlas or template, or give --space=hyperaligned"
        )
    texts = list(texts)
    if kind != "hyperaligned" and same:
        return Columns(texts, _column_values(texts, names), n_axes)
    return _hyperaligned(texts, n_bins, n_axes)


def _common_names(first: Sequence[WordResponses]) -> tuple[str, ...]:
    """The names of columns that all have, in the order of the first."""
    named = [_names(responses) for responses in first]
    return tuple(name for name in named[0] if all(name in others for others in named[1:]))


def _names(responses: WordResponses) -> list[str]:
    names = responses.meta.get("feature_names")
    fits = isinstance(names, list) and len(set(names)) == len(names) == responses.values.shape[1]
    return names if fits else []


def _same_places(first: Sequence[WordResponses]) -> bool:
    spaces = {None if r.space is None else r.space.fingerprint() for r in first}
    return len(spaces) == 1 and None not in spaces


def _column_values(texts: list[Text], names: tuple[str, ...]) -> list[np.ndarray]:
    """Responses [P, n, V] of each language in the common columns. Raises: ValueError as `shared_space`."""
    values, size, width = [], 0, None
    for text in texts:
        people = []
        for subject in text.dataset.subjects:
            responses = text.dataset.load(subject)
            if names:
                own = _names(responses)
                missing = [name for name in names if name not in own]
                if missing:
                    raise ValueError(
                        f"{text.dataset.name} ({text.language}): person {subject!r} lacks the column "
                        f"{missing[0]!r} that the others have: leave the person out, or give "
                        "--space=hyperaligned"
                    )
                responses = responses.select_columns([own.index(name) for name in names])
            n_columns = responses.values.shape[1]
            width = n_columns if width is None else width
            if n_columns != width:
                raise ValueError(
                    f"{text.dataset.name} ({text.language}): person {subject!r} has {n_columns} columns, the "
                    f"first one {width}: leave the person out, or give --space=hyperaligned"
                )
            size += 4 * len(text.rows) * width
            if size > _BYTES:
                raise ValueError(
                    f"the responses in {width:,} columns take more than {_BYTES >> 30} GiB: read regions in "
                    "place of voxels, or give --space=hyperaligned"
                )
            people.append(np.asarray(responses.values)[text.rows])
        values.append(np.stack(people))
    return values


def _hyperaligned(texts: list[Text], n_bins: int, n_axes: int) -> Hyperaligned:
    n_sections = int(texts[0].section.max()) + 1
    part_section = np.repeat(np.arange(n_sections), n_bins)
    people = []
    for text in texts:
        part = _parts_of(text, n_sections, n_bins)
        counts = np.bincount(part, minlength=len(part_section))
        own = []
        for subject in text.dataset.subjects:
            values = text.dataset.load(subject).values
            sums = Parts(
                np.zeros((len(part_section),) * 2), np.zeros((len(part), len(part_section)))
            )
            for start in range(0, values.shape[1], _BLOCK):
                words = np.asarray(values[:, start : start + _BLOCK][text.rows], np.float64)
                words = centred_by_section(words, text.section)
                parts = np.zeros((len(part_section), words.shape[1]))
                np.add.at(parts, part, words)
                parts = _filled(parts, counts, part_section)
                parts = centred_by_section(parts, part_section)
                sums.products[:] += parts @ parts.T
                sums.of_words[:] += words @ parts.T
            own.append(sums)
        people.append(own)
    return Hyperaligned(texts, people, part_section, n_axes)


def _parts_of(text: Text, n_sections: int, n_bins: int) -> np.ndarray:
    """The part [n] of its section that each word lies in, by time or, without times, by place."""
    part = np.zeros(len(text.rows), np.int64)
    for section in range(n_sections):
        here = np.flatnonzero(text.section == section)
        if len(here) < n_bins:
            raise ValueError(
                f"{text.dataset.name} ({text.language}): section {section + 1} has {len(here)} words for "
                f"{n_bins} parts: give a smaller n_bins (--n_bins)"
            )
        times = np.arange(len(here), dtype=float)
        if text.onsets is not None:
            times = _one_after_another(
                text.onsets[here], None if text.run is None else text.run[here]
            )
        share = (times - times.min()) / (np.ptp(times) or 1.0)
        part[here] = section * n_bins + np.minimum((share * n_bins).astype(int), n_bins - 1)
    return part


def _one_after_another(onsets: np.ndarray, run: np.ndarray | None) -> np.ndarray:
    """Onsets [n] within runs as times on one clock: each run begins where the one before it ends."""
    times, end = np.array(onsets, float), 0.0
    for label in dict.fromkeys([0] * len(times) if run is None else run.tolist()):
        here = slice(None) if run is None else run == label
        times[here] += end - times[here].min()
        end = times[here].max()
    return times


def _filled(sums: np.ndarray, counts: np.ndarray, part_section: np.ndarray) -> np.ndarray:
    """Means of the parts; a part without words, a silence, is as the nearest of its section that has some."""
    means = sums / np.maximum(counts, 1)[:, None]
    for section in np.unique(part_section):
        here = np.flatnonzero(part_section == section)
        full = here[counts[here] > 0]
        nearest = np.abs(here[:, None] - full[None, :]).argmin(axis=1)
        means[here] = means[full[nearest]]
    return means


def _principal(parts: Parts, trained: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(scores [K', R] of the trained parts, [n, R] of the words) on the parts' principal axes."""
    variances, vectors = np.linalg.eigh(parts.products[np.ix_(trained, trained)])
    variances, vectors = variances[::-1][:width], vectors[:, ::-1][:, :width]
    scale = np.sqrt(np.maximum(variances, 0))
    kept = scale > 1e-6 * scale[0]
    inverse = np.where(kept, 1 / np.where(kept, scale, 1), 0)
    size = np.sqrt(variances.sum()) or 1.0  # people count alike
    return vectors * scale / size, parts.of_words[:, trained] @ vectors * inverse / size


def _rotation(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation [R, R] of rows [K, R] to others."""
    left, _, right = np.linalg.svd(source.T @ target)
    return left @ right


def _scaled(values: np.ndarray, text: Text) -> np.ndarray:
    """Columns [n, V] about the mean of each section, in standard deviations over all of them."""
    centred = centred_by_section(values, text.section)
    spread = centred.std(axis=0)
    return np.where(spread > 0, centred / np.where(spread > 0, spread, 1), 0).astype(np.float32)


def _evened(values: np.ndarray, text: Text, section: int) -> np.ndarray:
    """Axes [n, R] about the mean of each section, all in one unit: the spread over the other sections."""
    centred = centred_by_section(values, text.section)
    spread = np.sqrt(np.square(centred[text.section != section]).mean()) or 1.0
    return (centred / spread).astype(np.float32)
