"""The tidy table of a study of languages: a row a score of a person or group, with its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from brainalign_jax.align.stats.bootstrap import draw_stratified
from brainalign_jax.studies.languages.cells import OTHERS, Scores
from brainalign_jax.studies.options import Languages
from brainalign_jax.study import outputs
from brainalign_jax.study.evidence.chance import permutation_p
from brainalign_jax.study.results import GROUP

COLUMNS = (
    "dataset", "subject", "model", "layer", "method", "trained_on", "tested_on", "candidates", "metric", "k",
    "value", "null_mean", "ceiling", "p", "n_train", "n_items", "fertility", "lower", "upper",
)  # fmt: skip
FILE = "languages.parquet"
ALL, WITHIN, ACROSS = "all", "within", "across"
_TWICE = 2**0.5


@dataclass(frozen=True)
class LanguageTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`; manifest: how they came about.

    metric: "rank_accuracy" (chance one half) or "precision" at k (chance k / candidates) of the held-out
    words of people of `tested_on`, in each section among its words that occur in no other, by a map fitted in
    the other sections on people of `trained_on`: a language, "others" for all but the one tested, or the
    same language, whose other people are then trained on. subject "group" is the mean over the people, with
    an interval over people (lower, upper). tested_on "all" is the mean over languages: trained_on "within",
    "across" (over the pairs) or "others"; people are resampled within their languages.
    null_mean: mean of the draws in which, within a language, the words are shifted in a circle against the
    recording and, across languages, the tested people's space is turned; p: draws that reach the value, those
    within a language, of single people too, and those of a mean widened by `mean_draws`.
    ceiling: rank accuracy of the words by the other people's responses. layer -1 is chosen in the training
    sections. fertility: sub-tokens a word of the tested language, mean over languages.
    """

    file_name = FILE
    kind = "study of languages"


class Drawn:
    """Resamples of people within languages: means over people, and over languages of these."""

    def __init__(self, people: Mapping[str, Sequence[str]], plan: Languages, seed: int):
        strata = [language for language, names in people.items() for _ in names]
        counts = draw_stratified(strata, plan.n_bootstraps, random_state=seed)
        self.counts = {language: counts[:, np.equal(strata, language)] for language in people}
        self._tails = (1 - plan.confidence) / 2, (1 + plan.confidence) / 2

    def interval(self, by_language: Mapping[str, np.ndarray]) -> tuple[float, float]:
        """Bounds of the mean over languages of the mean over people of values [P]; NaN without two people."""
        if all(len(values) < 2 for values in by_language.values()):
            return np.nan, np.nan
        drawn = self.means(by_language)
        lower, upper = np.quantile(drawn, self._tails)
        return float(lower), float(upper)

    def means(self, by_language: Mapping[str, np.ndarray]) -> np.ndarray:
        """The mean [B] over languages of the mean over their people, of values [P] by language."""
        drawn = [
            self.counts[language] @ np.asarray(values, float) / len(values)
            for language, values in by_language.items()
        ]
        return np.mean(drawn, axis=0)


def rows_of(
    scores: Mapping[tuple[str, str], Scores],
    people: Mapping[str, Sequence[str]],
    datasets: Mapping[str, str],
    layers: Sequence[int],
    ks: Sequence[int],
    fertility: Mapping[str, float],
    drawn: Drawn,
) -> pd.DataFrame:
    """Rows of one model and method.

    scores: by (trained on, tested on); people: by language; layers: [1 + L] numbers, the chosen one first.
    """
    metrics = [("rank_accuracy", 0), *(("precision", k) for k in ks)]
    lines: list[dict] = []
    values = {pair: cell.values() for pair, cell in scores.items()}

    def add(pair, subject, place, own, null, ceiling, bounds, about):
        layer, metric = place
        name, k = metrics[metric]
        lines.append(
            {
                "subject": subject, "layer": layers[layer], "trained_on": pair[0], "tested_on": pair[1],
                "metric": name, "k": k, "value": own, "null_mean": null.mean() if len(null) else np.nan,
                "ceiling": ceiling if name == "rank_accuracy" else np.nan,
                "p": permutation_p(own, null) if len(null) else np.nan,
                "lower": bounds[0], "upper": bounds[1], **about,
            }
        )  # fmt: skip

    places = [(layer, metric) for layer in range(len(layers)) for metric in range(len(metrics))]
    for (trained, tested), cell in scores.items():
        about = {
            "dataset": datasets[tested],
            "candidates": round(float(cell.n_items.mean()) / cell.sections),
            "n_train": round(cell.n_train / cell.sections),
            "n_items": int(cell.n_items.max()),
            "fertility": fertility[tested],
        }
        for layer, metric in places:
            of_people = values[trained, tested][:, :, layer, metric]
            for index, subject in enumerate(people[tested]):
                own = of_people[:, index]
                add(
                    (trained, tested), subject, (layer, metric), own[0],
                    mean_draws(own[1:]) if trained == tested else own[1:], cell.ceilings[index],
                    (np.nan, np.nan), about,
                )  # fmt: skip
            group = of_people.mean(axis=1)
            null = mean_draws(group[1:]) if trained == tested else group[1:]
            bounds = drawn.interval({tested: of_people[0]})
            ceiling = cell.ceilings.mean()
            add((trained, tested), GROUP, (layer, metric), group[0], null, ceiling, bounds, about)
    for kind, pairs in _kinds(scores).items():
        together = [scores[pair] for pairs_of in pairs.values() for pair in pairs_of]
        about = {
            "dataset": "+".join(dict.fromkeys(datasets.values())),
            "candidates": round(
                np.mean([cell.n_items.mean() / cell.sections for cell in together])
            ),
            "n_train": round(np.mean([cell.n_train / cell.sections for cell in together])),
            "n_items": int(sum(scores[own[0]].n_items.max() for own in pairs.values())),
            "fertility": float(np.mean([fertility[language] for language in pairs])),
        }
        ceiling = np.mean([scores[own[0]].ceilings.mean() for own in pairs.values()])
        for layer, metric in places:
            of_languages = {
                language: np.mean([values[pair][:, :, layer, metric] for pair in own], axis=0)
                for language, own in pairs.items()
            }
            group = np.mean([own.mean(axis=1) for own in of_languages.values()], axis=0)
            null = mean_draws(group[1:])
            bounds = drawn.interval({language: own[0] for language, own in of_languages.items()})
            add((kind, ALL), GROUP, (layer, metric), group[0], null, ceiling, bounds, about)
    return pd.DataFrame(lines)


def mean_draws(null: np.ndarray) -> np.ndarray:
    """Draws [B] of a mean in which everybody is tested with a map of the others, further from their mean.

    What two sections of two people (or languages) have in common by chance counts twice in such a mean: where
    the first is tested by a map of the second, and the other way round. Draws move the tested section alone,
    so that both count apart, and their mean varies too little, by the root of two where scores are linear.
    A single person's mean over the sections varies as much where people share what the words do not explain:
    each section is then tested by a map of the others as good as on the person's own responses.
    """
    return null.mean() + _TWICE * (null - null.mean()) if len(null) else null


def _kinds(scores: Mapping[tuple[str, str], Scores]) -> dict[str, dict[str, list]]:
    """within, across, others -> language tested -> the pairs that count."""
    kinds: dict[str, dict[str, list]] = {}
    for trained, tested in scores:
        kind = OTHERS if trained == OTHERS else WITHIN if trained == tested else ACROSS
        kinds.setdefault(kind, {}).setdefault(tested, []).append((trained, tested))
    return {kind: kinds[kind] for kind in (WITHIN, ACROSS, OTHERS) if kind in kinds}
