"""The report of a study of languages: the verdict first, then matrices, people and models, one HTML file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from brainalign_jax.studies.languages import verdict
from brainalign_jax.studies.languages.cells import OTHERS
from brainalign_jax.studies.languages.table import ACROSS, ALL, WITHIN, LanguageTable
from brainalign_jax.study.report import page
from brainalign_jax.study.report.figure_parts import GREY, colours
from brainalign_jax.study.report.judged import Judged
from brainalign_jax.study.report.wording import (
    interval,
    listed,
    number,
    p_value,
    percent,
    probability,
    short_names,
)

_HEADER = (
    "model", "method", "trained on", "tested on", "rank accuracy", "interval", "null mean", "ceiling",
    "p", "sub-tokens a word",
)  # fmt: skip
_TOGETHER = {
    WITHIN: "the same language",
    ACROSS: "another language",
    OTHERS: "all others together",
}


def write_report(table: LanguageTable, folder: str | Path) -> Path:
    """Write `folder`/report.html, one file that needs nothing else."""
    manifest = table.manifest
    languages = list(manifest["languages"])
    verdicts = verdict.verdicts(table)
    labels = short_names(list(dict.fromkeys(shown.model for shown in verdicts)))
    figures = []
    for shown in verdicts:
        title = f"{shown.method}, {labels[shown.model]}"
        figures += [
            page.picture(f"matrix {title}", draw_matrix(table, shown), _matrix_caption(title)),
            page.picture(f"people {title}", draw_people(table, shown), _people_caption(title)),
        ]
    lines = [line for shown in verdicts for line in _lines(table, shown, labels[shown.model])]
    return page.write(
        folder,
        "languages",
        title=f"Language models and brains in {listed(languages)}",
        lead=_scope(table),
        simulated=bool(manifest["simulated"]),
        answer=page.opening(verdict.answer(table), _explanation(table, verdicts)),
        verdicts=[shown.text for shown in verdicts] if len(verdicts) > 1 else [],
        how=_how(table),
        figures=figures,
        scores=page.Table(_HEADER, lines, 4),
        models=_models(table, labels),
        matched=[
            _matched(effect, manifest["plan"]["confidence"]) for effect in manifest["matched"]
        ],
        languages=_languages(table),
        audited=[
            (language, about["audited"])
            for language, about in manifest["languages"].items()
            if about["audited"]
        ],
        facts=_facts(table),
    )


def draw_matrix(table: LanguageTable, shown: Judged) -> Figure:
    """Rank accuracy by the language trained on (rows) and tested on (columns), with numbers."""
    languages = list(table.manifest["languages"])
    rows = verdict.chosen_lines(table, shown.model, shown.method).set_index(
        ["trained_on", "tested_on"]
    )
    trained = [*languages, *([OTHERS] if OTHERS in rows.index.get_level_values(0) else [])]
    pairs = [[(row, column) in rows.index for column in languages] for row in trained]
    values = np.array(
        [[rows["value"].get((row, column), np.nan) for column in languages] for row in trained]
    )
    figure = Figure(
        figsize=(1.3 * len(languages) + 2.2, 0.8 * len(trained) + 1.4), layout="constrained"
    )
    axis = figure.subplots()
    reach = max(0.05, float(np.nanmax(np.abs(values - verdict.CHANCE))))
    image = axis.imshow(
        values,
        cmap="PuOr_r",
        vmin=verdict.CHANCE - reach,
        vmax=verdict.CHANCE + reach,
        aspect="auto",
    )
    for place in np.argwhere(np.array(pairs)):
        line = rows.loc[trained[place[0]], languages[place[1]]]
        dark = abs(line["value"] - verdict.CHANCE) > 0.6 * reach
        text = f"{number(line['value'])}\n{probability(line['p'])}"
        colour = "white" if dark else "black"
        axis.text(
            place[1], place[0], text, ha="center", va="center", color=colour, fontsize="small"
        )
    axis.set_xticks(range(len(languages)), languages)
    axis.set_yticks(range(len(trained)), trained)
    axis.set_xlabel("people tested")
    axis.set_ylabel("people trained on")
    figure.colorbar(image, label="rank accuracy")
    return figure


def draw_people(table: LanguageTable, shown: Judged) -> Figure:
    """Each person's score after training on other languages against that of the own one."""
    figure = Figure(figsize=(4.6, 3.8), layout="constrained")
    axis = figure.subplots()
    inked = colours(table.manifest["languages"])
    for language, about in table.manifest["languages"].items():
        for index, person in enumerate(about["people"]):
            rows = verdict.chosen_lines(table, shown.model, shown.method, person)
            rows = rows[(rows["tested_on"] == language) & (rows["trained_on"] != OTHERS)]
            same = rows["trained_on"] == language
            place = rows.loc[same, "value"].mean(), rows.loc[~same, "value"].mean()
            axis.plot(*place, "o", color=inked[language], label="" if index else language)
    axis.axhline(verdict.CHANCE, color=GREY, linewidth=0.8)
    axis.axvline(verdict.CHANCE, color=GREY, linewidth=0.8)
    axis.axline(
        (verdict.CHANCE, verdict.CHANCE), slope=1, color=GREY, linewidth=0.8, linestyle="--"
    )
    axis.set_xlabel("trained on the same language")
    axis.set_ylabel("trained on another language")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small", title="people of")
    return figure


def _matrix_caption(title: str) -> str:
    return (
        f"{title}: rank accuracy by whose responses were trained on and whose were decoded. On the diagonal "
        "other people of the same language. Below the scores: p of each cell alone."
    )


def _people_caption(title: str) -> str:
    return (
        f"{title}: a point a person, rank accuracy after training on other people of the same language and, "
        "mean over languages, of another; grey lines: chance; dashed: as much across as within."
    )


def _explanation(table: LanguageTable, judged: list[Judged]) -> str:
    best = verdict.answer(table)[1]
    more = verdict.headline(table).removeprefix(f"{best}.").strip()
    first = next(shown for shown in judged if verdict.ANSWERS[shown.answer] == best)
    return f"{more} {first.text}".strip()


def _lines(table: LanguageTable, shown: Judged, label: str) -> list[list[str]]:
    lines = []
    for _, line in verdict.chosen_lines(table, shown.model, shown.method).iterrows():
        together = line["tested_on"] == ALL
        trained = _TOGETHER[line["trained_on"]] if together else line["trained_on"]
        lines.append(
            [
                label,
                shown.method,
                trained,
                "all languages" if together else line["tested_on"],
                number(line["value"]),
                interval(line["lower"], line["upper"]),
                number(line["null_mean"]),
                number(line["ceiling"]),
                p_value(line["p"]),
                number(line["fertility"]),
            ]
        )
    return lines


def _models(table: LanguageTable, labels: dict[str, str]) -> page.Table | None:
    """Models x languages, each within the language; None for one model."""
    if len(labels) < 2:
        return None
    languages, of_model = list(table.manifest["languages"]), table.manifest["model_languages"]
    lines = []
    for shown in verdict.verdicts(table):
        rows = verdict.chosen_lines(table, shown.model, shown.method)
        rows = rows[rows["trained_on"] == rows["tested_on"]].set_index("tested_on")
        cells = [
            f"{number(rows.loc[language, 'value'])} ({number(rows.loc[language, 'fertility'])})"
            for language in languages
        ]
        lines.append([labels[shown.model], of_model.get(shown.model, "–"), shown.method, *cells])
    note = "Rank accuracy within each language; in brackets: sub-tokens a word."
    return page.Table(["model", "of", "method", *languages], lines, 3, note)


def _matched(effect: dict, confidence: float) -> str:
    beside = (
        f" beside {listed(effect['covariates'])}".replace("_", " ") if effect["covariates"] else ""
    )
    return (
        f"{effect['method']}: a model of the people's own language scores "
        f"{number(effect['difference'])} {interval(effect['lower'], effect['upper'])} more than the others"
        f"{beside} ({effect['n_cells']} cells; {percent(confidence)} interval over people)."
    )


def _languages(table: LanguageTable) -> page.Table:
    lines = [
        [
            language,
            about["dataset"]["name"],
            str(len(about["people"])),
            f"{about['n_words']:,}",
            f"{number(about['log_frequency'])} (in the {about['frequency_of']})",
        ]
        for language, about in table.manifest["languages"].items()
    ]
    return page.Table(["language", "data set", "people", "words", "mean log frequency"], lines, 2)


def _scope(table: LanguageTable) -> str:
    people = ", ".join(
        f"{len(about['people'])} people in {language}"
        for language, about in table.manifest["languages"].items()
    )
    space = {
        "columns": "The same columns of all people are compared",
        "hyperaligned": "People are hyperaligned by the sections that are not tested",
    }[table.manifest["space"]]
    return f"{people}; {len(table.manifest['sections'])} sections. {space}."


def _how(table: LanguageTable) -> str:
    plan = table.manifest["plan"]
    return (
        "Rank accuracy: 1 for the first of the candidates, 0 for the last. Each section is tested by a map "
        "that was fitted on the other sections; the candidates are the words of the tested people's own "
        "language that occur in no other section, and are the same whoever was trained on. Vectors and "
        "responses are about the mean of their section. Layer and penalty are chosen in the training "
        f"sections. p: {plan['n_nulls']} draws in which, within a language, the words of each tested section "
        "are shifted in a circle against the recording and, across languages, the space of the tested people "
        "is turned at random among principal axes of like variance: two maps that have nothing to do with "
        "one another agree a little by chance, in both directions alike: draws of a mean over people or "
        "languages, and of each person within a language, are widened by the root of two for it. Intervals: "
        "people resampled within languages. "
        "Ceiling: the words told apart by the other people's responses to them."
    )


def _facts(table: LanguageTable) -> page.Table:
    manifest = table.manifest
    known = [(f"choice: {key}", value) for key, value in manifest["plan"].items()]
    known += [
        (key, manifest[key])
        for key in ("sections", "methods", "ks", "layers", "seed", "command", "created", "versions")
    ]
    return page.facts((key, value) for key, value in known if value not in (None, ""))
