"""Where the data and models of claims are: told, in a folder of releases, in a cache; or what gets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from brainalign_jax.files import user_path
from brainalign_jax.language import Embeddings, resolve
from brainalign_jax.language.models.weights.folders import WEIGHT_NAMES
from brainalign_jax.names import check_known
from brainalign_jax.neural.downloads.fetching import data_folder
from brainalign_jax.neural.downloads.releases import list_releases
from brainalign_jax.neural.readers import Dataset, open_dataset
from brainalign_jax.studies.claims.asked_studies import RELEASED
from brainalign_jax.studies.claims.claim_files import Claim
from brainalign_jax.study.names import UNTRAINED

_STATIC = "static:"


class Absent(Exception):
    """What a claim needs is not here; what to do about it."""


class DataAbsent(Absent):
    """A data set is not here."""


class ModelAbsent(Absent):
    """A model is not here."""


class Sources:
    """Finds data sets and models, and keeps opened data sets.

    data_dir: the folder of releases' folders, as of `fetch`. datasets: name -> folder, or the opened data
    set. models_dir: a folder of models' folders, by the last part of their names. models: name -> folder or
    vectors.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        datasets: Mapping[str, str | Path | Dataset],
        models_dir: str | Path | None,
        models: Mapping[str, str | Path | Embeddings],
    ):
        self._data_dir = data_folder(data_dir)
        self._datasets = datasets
        self._models_dir = None if models_dir is None else user_path(models_dir, "models_dir")
        self._models = models
        self._opened: dict[str, Dataset] = {}

    def dataset(self, claim: Claim) -> Dataset:
        """The data set of a claim, with its subjects. Raises: DataAbsent; ValueError as its reader."""
        given = self._datasets.get(claim.dataset, self._data_dir / claim.dataset)
        if isinstance(given, Dataset):
            for subject in claim.subjects or ():
                check_known("subject", subject, given.subjects, of=given.name)
            return replace(given, subjects=claim.subjects or given.subjects)
        folder = user_path(given, f"data_dirs={claim.dataset}")
        if not folder.is_dir():
            raise DataAbsent(f"{folder} is not there: {_remedy(claim.dataset)}")
        key = repr((claim.dataset, claim.subjects, sorted(claim.reader_options.items())))
        if key not in self._opened:
            try:
                self._opened[key] = open_dataset(
                    claim.dataset, folder, subjects=claim.subjects, **claim.reader_options
                )
            except FileNotFoundError as error:
                raise DataAbsent(f"{error}; {_remedy(claim.dataset)}") from error
        return self._opened[key]

    def models(self, claim: Claim) -> dict[str, str | Embeddings]:
        """name -> what a study takes, of the models of a claim. Raises: ModelAbsent naming all that lack."""
        located, lacking = {}, []
        for name in claim.models:
            try:
                located[name] = self._model(name)
            except ModelAbsent as error:
                lacking.append(str(error))
        if lacking:
            many = f" and {len(lacking) - 1} more" * (len(lacking) > 1)
            raise ModelAbsent(
                f"{lacking[0]}{many}: `hf download` it, or name folders by --models_dir or --model_dirs"
            )
        return located

    def _model(self, name: str) -> str | Embeddings:
        if name in self._models:
            given = self._models[name]
            return given if isinstance(given, Embeddings) else self._folder(name, given)
        if name.startswith(RELEASED):
            return name
        if name.startswith(UNTRAINED):
            trained = self._model(name.removeprefix(UNTRAINED))
            if isinstance(trained, Embeddings):
                raise ModelAbsent(f"{name}: vectors in memory have no untrained twin")
            return f"{UNTRAINED}{trained}"
        source = resolve(name).source
        if Path(source).is_absolute():
            return self._folder(name, source)
        if self._models_dir is not None:
            for part in dict.fromkeys((name, source.rpartition("/")[2])):
                if (self._models_dir / part).exists():
                    return str(self._models_dir / part)
        if _in_cache(source):
            return name
        raise ModelAbsent(source)

    def _folder(self, name: str, given: str | Path) -> str:
        path = user_path(given, f"model_dirs={name}")
        if not path.exists():
            raise ModelAbsent(f"{path}, which is to be {name}")
        return f"{_STATIC}{path}" if name.startswith(_STATIC) else str(path)


def _in_cache(source: str) -> bool:
    """Whether config and weights of a hub id are in the Hugging Face cache."""
    import huggingface_hub

    repo, _, revision = source.partition("@")

    def there(file: str) -> bool:
        cached = huggingface_hub.try_to_load_from_cache(repo, file, revision=revision or None)
        return isinstance(cached, str)

    return there("config.json") and any(map(there, WEIGHT_NAMES))


def _remedy(dataset: str) -> str:
    if dataset in list_releases():
        return f"`brainalign fetch {dataset}`, or name its folder by --data_dirs={dataset}=FOLDER"
    return (
        f"docs/datasets.md says where it is from; name its folder by --data_dirs={dataset}=FOLDER"
    )
