"""Claims of papers as small TOML files: data, models, study, quantity, what is published, what audits it."""

from __future__ import annotations

import hashlib
import sys
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainalign_jax.files import user_path
from brainalign_jax.language import resolve
from brainalign_jax.names import check_known
from brainalign_jax.neural.catalog import dataset_names
from brainalign_jax.neural.readers.registry import reader_options
from brainalign_jax.studies.claims.asked_studies import RELEASED, STUDIES, Options
from brainalign_jax.studies.claims.outcomes import Expected
from brainalign_jax.studies.claims.quantities import Quantity

PUBLISHED_CLAIMS = Path(__file__).with_name("published")
_MOST_BYTES = 2**18  # of a claim file, which is a page
_MOST_FILES = 1000
_CITATION = {"authors": str, "year": int, "source": str}
_KEYS = {
    "claim": ("title", "statement", "citation", "data", "models", "published", "audited", "note"),
    "data": ("name", "subjects", "options", "differs"),
    "models": ("names", "differs"),
    "published": ("study", "options", "quantity", "expected"),
    "audited": ("study", "options", "quantity", "checks", "not_needed"),
    "check": ("name", "quantity", "expected"),
    "quantity": tuple(Quantity.__dataclass_fields__),
    "expected": tuple(Expected.__dataclass_fields__),
}


@dataclass(frozen=True)
class Asked:
    """A study that is asked, with which options."""

    study: str
    options: Options

    def key(self) -> str:
        """The same for the same study with the same options."""
        of = {cls.__name__: dict(given) for cls, given in self.options.of.items()}
        return repr((self.study, sorted(of.items()), sorted(self.options.others.items())))


@dataclass(frozen=True)
class Check:
    """What audited evidence must say: of what, which number, and what it is to be."""

    name: str
    quantity: Quantity
    expected: Expected


@dataclass(frozen=True)
class Claim:
    """A claim of a paper as a claim file has it.

    name: of its file. citation: authors, year and source (DOI or arXiv). note: on where the published value
    is from. dataset, subjects (None for all), reader_options; models: names. differs: how data or models
    are other than the paper's, "" where they are its own. published: the study by the paper's protocol,
    `quantity` of it and what is `expected`. audited: the study of the `checks`, None where they are
    `not_needed` (why); audited_quantity: the same number by the audited protocol, where it is asked for.
    """

    name: str
    path: Path
    sha256: str
    title: str
    statement: str
    citation: Mapping[str, str | int]
    note: str
    dataset: str
    subjects: tuple[str, ...] | None
    reader_options: Mapping[str, Any]
    models: tuple[str, ...]
    differs: str
    published: Asked
    quantity: Quantity
    expected: Expected
    audited: Asked | None
    audited_quantity: Quantity | None
    checks: tuple[Check, ...]
    not_needed: str

    def cited(self) -> str:
        """Authors, year and source in a line."""
        return "{authors} {year}, {source}".format(**self.citation)


def read_claims(
    sources: Sequence[str | Path] = (),
    *,
    datasets: Collection[str] = (),
    models: Collection[str] = (),
) -> list[Claim]:
    """The claims of files and folders (*.toml), by name; those of the package where none is given.

    datasets, models: names of a caller's own, in memory.

    >>> import brainalign_jax as ba
    >>> claims = ba.studies.claims.read_claims()
    >>> all(claim.statement.endswith(".") for claim in claims)
    True

    Raises: FileNotFoundError, or ValueError naming the file, the key and what it takes; and where two
      claims have one name.
    """
    paths: list[Path] = []
    for source in sources or [PUBLISHED_CLAIMS]:
        place = user_path(source, "claims", "a claim file or a folder of them")
        if place.is_dir():
            inside = sorted(place.glob("*.toml"))
            if not inside:
                raise FileNotFoundError(
                    f"{place} holds no claim file (*.toml): name another folder"
                )
            paths += inside
        elif place.is_file():
            paths.append(place)
        else:
            raise FileNotFoundError(
                f"{place} does not exist: give a claim file or a folder of them"
            )
    if len(paths) > _MOST_FILES:
        raise ValueError(f"{len(paths)} claim files are more than {_MOST_FILES}: name fewer")
    claims = [read_claim(path, datasets=datasets, models=models) for path in paths]
    by_name: dict[str, Claim] = {}
    for claim in claims:
        other = by_name.setdefault(claim.name, claim)
        if other is not claim:
            raise ValueError(f"{claim.path}: {other.path} has this name, too: rename one")
    return [by_name[name] for name in sorted(by_name)]


def read_claim(
    path: Path, *, datasets: Collection[str] = (), models: Collection[str] = ()
) -> Claim:
    """One claim file. Raises: as `read_claims`."""
    if not path.is_file():
        raise ValueError(f"{path} is no file that can be read: name a claim file")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path} has more than {_MOST_BYTES:,} bytes: a claim file is a page")
    content = path.read_bytes()
    try:
        parsed = tomllib.loads(content.decode("utf-8-sig"))  # some editors begin with a mark
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are
        said = " ".join(str(error).split())
        raise ValueError(f"{path} is no TOML ({said}): mend it, or write it anew") from error
    return _Reading(path, datasets, models).claim(parsed, hashlib.sha256(content).hexdigest())


class _Reading:
    """One file being read: every refusal names it and the key."""

    def __init__(self, path: Path, datasets: Collection[str], models: Collection[str]):
        self.path, self.datasets, self.models = path, datasets, models

    def claim(self, parsed: dict, sha256: str) -> Claim:
        self._known("", parsed, _KEYS["claim"])
        citation = self._table(parsed, "citation", _CITATION)
        for name, kind in _CITATION.items():
            self._taken(citation, name, kind, "citation.")
        data = self._table(parsed, "data", _KEYS["data"])
        dataset = self._taken(data, "name", str, "data.")
        self._try("data.name", check_known, "data set", dataset, [*dataset_names(), *self.datasets])
        own_data = dataset in self.datasets
        reading = self._taken(data, "options", dict, "data.", {})
        for option in () if own_data else reading:
            known = reader_options(dataset)
            self._try("data.options", check_known, "option", option, known, of=dataset)
        subjects = self._texts(data, "subjects", "data.")
        published = self._table(parsed, "published", _KEYS["published"])
        asked = self._asked(published, "published.")
        about = self._table(parsed, "models", _KEYS["models"]) if "models" in parsed else {}
        names = self._models(asked, about)
        expected = self._expected(published, "published.")
        audit = self._audit(parsed, asked, expected)
        differs = [
            self._taken(of, "differs", str, key, "")
            for of, key in ((data, "data."), (about, "models."))
        ]
        statement = self._taken(parsed, "statement", str)
        if not statement.endswith("."):
            raise self._refused("statement", "takes a sentence, which ends with a full stop")
        return Claim(
            self.path.stem,
            self.path,
            sha256,
            self._taken(parsed, "title", str),
            statement,
            citation,
            self._taken(parsed, "note", str, default=""),
            dataset,
            subjects,
            {key: tuple(v) if isinstance(v, list) else v for key, v in reading.items()},
            names,
            "; ".join(filter(None, differs)),
            asked,
            self._quantity(published, "quantity", asked.study, "published."),
            expected,
            *audit,
        )

    def _audit(self, parsed: dict, published: Asked, expected: Expected) -> tuple:
        """(study, quantity, checks, why none is needed) of the audited evidence."""
        key = "audited."
        audited = self._table(parsed, "audited", _KEYS["audited"])
        if "not_needed" in audited:
            for name in audited:
                if name != "not_needed":
                    raise self._refused(key + name, "is given beside not_needed: leave one out")
            if expected.direction is not None:
                raise self._refused(
                    "audited.not_needed",
                    "a direction alone is right half of the time by chance: give audited checks",
                )
            return None, None, (), self._taken(audited, "not_needed", str, key)
        asked = published
        if "options" in audited or "study" in audited:
            asked = self._asked({"study": published.study, **audited}, key)
        checks = self._taken(audited, "checks", list, key)
        if not checks:
            raise self._refused("audited.checks", "takes one check or more")
        read = []
        for number, check in enumerate(checks, 1):
            place = f"audited.checks[{number}]"
            if not isinstance(check, dict):
                raise self._refused(place, "takes a table with name, quantity and expected")
            self._known(f"{place}.", check, _KEYS["check"])
            read.append(
                Check(
                    self._taken(check, "name", str, f"{place}."),
                    self._quantity(check, "quantity", asked.study, f"{place}."),
                    self._expected(check, f"{place}."),
                )
            )
        quantity = None
        if "quantity" in audited:
            quantity = self._quantity(audited, "quantity", asked.study, key)
        return asked, quantity, tuple(read), ""

    def _asked(self, of: dict, key: str) -> Asked:
        study = self._taken(of, "study", str, key)
        self._try(f"{key}study", check_known, "study", study, STUDIES)
        options = self._taken(of, "options", dict, key, {})
        return Asked(study, self._try(f"{key}options", STUDIES[study].asked, options))

    def _models(self, asked: Asked, about: dict) -> tuple[str, ...]:
        names = self._texts(about, "names", "models.") or ()
        takes = STUDIES[asked.study].takes_models
        if takes != bool(names):
            needs = "takes one model or more" if takes else f"{asked.study} takes no models"
            raise self._refused("models.names", needs)
        for name in names:
            if not name.startswith(RELEASED) and name not in self.models:
                self._try("models.names", resolve, name)
        return names

    def _quantity(self, of: dict, name: str, study: str, key: str) -> Quantity:
        given, place = self._table(of, name, _KEYS["quantity"], key), f"{key}{name}"
        for rows in ("where", "minus"):
            if rows in given:
                given[rows] = self._where(given[rows], f"{place}.{rows}")
        for other in set(given) - {"where", "minus"}:
            self._taken(given, other, str, f"{place}.")
        if "table" not in given:
            raise self._refused(place, f"names no table=, of {', '.join(STUDIES[study].tables)}")
        quantity = self._try(place, lambda: Quantity(**given))
        tables = STUDIES[study].tables
        self._try(place, check_known, "table", quantity.table, tables, of=study)
        for column in quantity.columns():
            known = tables[quantity.table]
            self._try(
                place, check_known, "column", column, known, of=f"the table {quantity.table!r}"
            )
        return quantity

    def _where(self, given: Any, place: str) -> dict:
        if not isinstance(given, dict):
            raise self._refused(place, "takes a table of columns and values")
        plain = {}
        for column, value in given.items():
            several = value if isinstance(value, list) else [value]
            if not several or not all(
                isinstance(item, str | int | float | bool) for item in several
            ):
                raise self._refused(f"{place}.{column}", "takes texts or numbers")
            plain[column] = tuple(several) if isinstance(value, list) else value
        return plain

    def _expected(self, of: dict, key: str) -> Expected:
        given, place = self._table(of, "expected", _KEYS["expected"], key), f"{key}expected"
        for name in set(given) - {"direction"}:
            value = given[name]
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self._refused(f"{place}.{name}", "takes a number")
            if (
                not abs(value) <= sys.float_info.max
            ):  # also NaN; a whole number may be above all floats
                raise self._refused(f"{place}.{name}", "takes a finite number")
        return self._try(place, lambda: Expected(**given))

    def _table(self, of: dict, name: str, known: Collection[str], key: str = "") -> dict:
        table = dict(self._taken(of, name, dict, key))
        self._known(f"{key}{name}.", table, known)
        return table

    def _known(self, key: str, given: Mapping, known: Collection[str]) -> None:
        for name in given:
            self._try(f"{key}{name}", check_known, "key", name, known)

    def _texts(self, of: dict, name: str, key: str) -> tuple[str, ...] | None:
        if name not in of:
            return None
        texts = self._taken(of, name, list, key)
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise self._refused(f"{key}{name}", "takes a list of texts")
        if len(set(texts)) < len(texts):
            raise self._refused(f"{key}{name}", "names one twice: name each once")
        return tuple(texts)

    def _taken(self, of: dict, name: str, kind: type, key: str = "", default: Any = None) -> Any:
        value = of.get(name, default)
        if value is None:
            raise self._refused(f"{key}{name}", "is missing: give it")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            wanted = {str: "a text", int: "a whole number", dict: "a table", list: "a list"}[kind]
            raise self._refused(f"{key}{name}", f"takes {wanted}, not {value!r}")
        if isinstance(value, str) and not value.strip() and default is None:
            raise self._refused(f"{key}{name}", "is empty: give it")
        return value

    def _try(self, key: str, function, *arguments, **more) -> Any:
        try:
            return function(*arguments, **more)
        except (ValueError, TypeError) as error:
            raise self._refused(key, str(error)) from error

    def _refused(self, key: str, said: str) -> ValueError:
        return ValueError(f"{self.path}: {key}: {said}")
