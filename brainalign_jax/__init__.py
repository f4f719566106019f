"""brainalign_jax: how similar are a language model's word vectors to neural responses to the words?

    import brainalign_jax as ba

    table = ba.run_study(ba.open_dataset("alice", "data/alice"), ["gpt2"])
    print(table.verdict())

Names are loaded when they are first used: importing the package starts neither JAX nor anything heavy.
"""

import importlib

from brainalign_jax import threads  # noqa: F401 (sees forks from the start)

__version__ = "0.2.0"

# name -> (module, name in it); a module itself where the second is None.
_DOOR = {
    "open_dataset": ("brainalign_jax.neural.readers", "open_dataset"),
    "list_datasets": ("brainalign_jax.neural.readers", "list_datasets"),
    "register": ("brainalign_jax.neural.readers", "register"),
    "Dataset": ("brainalign_jax.neural.readers", "Dataset"),
    "fetch": ("brainalign_jax.neural.downloads.fetching", "fetch"),
    "WordResponses": ("brainalign_jax.neural.responses", "WordResponses"),
    "export_kernels": ("brainalign_jax.neural.readers.kernels", "export_kernels"),
    "Stimulus": ("brainalign_jax.stimulus", "Stimulus"),
    "Spans": ("brainalign_jax.spans", "Spans"),
    "embed": ("brainalign_jax.language.embed", "embed"),
    "embed_spans": ("brainalign_jax.language.span_vectors", "embed_spans"),
    "surprisal": ("brainalign_jax.language.surprisal", "surprisal"),
    "list_models": ("brainalign_jax.language.models.registry", "list_models"),
    "Embedding": ("brainalign_jax.embedding", "Embedding"),
    "EmbedOptions": ("brainalign_jax.embedding", "EmbedOptions"),
    "Embeddings": ("brainalign_jax.language.embeddings", "Embeddings"),
    "run_study": ("brainalign_jax.study.run", "run_study"),
    "protocol": ("brainalign_jax.study.protocol", "protocol"),
    "register_method": ("brainalign_jax.study.registry", "register_method"),
    "register_measure": ("brainalign_jax.study.registry", "register_measure"),
    "Scoring": ("brainalign_jax.study.options", "Scoring"),
    "EvidencePlan": ("brainalign_jax.study.options", "EvidencePlan"),
    "ResultTable": ("brainalign_jax.study.results", "ResultTable"),
    "RidgeAligner": ("brainalign_jax.estimators", "RidgeAligner"),
    "ProcrustesAligner": ("brainalign_jax.estimators", "ProcrustesAligner"),
    "BandedRidgeAligner": ("brainalign_jax.banded_estimator", "BandedRidgeAligner"),
    "align": ("brainalign_jax.align", None),
    "studies": ("brainalign_jax.studies", None),
}
__all__ = sorted([*_DOOR, "__version__"])


def __getattr__(name: str):
    if name not in _DOOR:
        from brainalign_jax.names import nearest

        raise AttributeError(f"brainalign_jax has no {name!r}; {nearest(name, _DOOR)}")
    module, inner = _DOOR[name]
    loaded = importlib.import_module(module)
    return loaded if inner is None else getattr(loaded, inner)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
