"""A study while it runs: what is asked of which data, and what the parts of a run share."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from brainalign_jax.embedding import Embedding
from brainalign_jax.language import Embeddings, embed, embed_spans, resolve
from brainalign_jax.language.hidden_states.head_vectors import n_layers_of
from brainalign_jax.language.models import checkpoint
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study import memory, processes
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.controls import control_vectors, is_control
from brainalign_jax.study.names import seed_of, without_seed
from brainalign_jax.study.options import EvidencePlan, Scoring
from brainalign_jax.study.progress import VECTORS, Progress
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.registry import identity_of

Blocks = list[tuple[int, int, int]]


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """One data set, the models that are compared with it, and how; handed through a run as it is.

    models: names, those of twins and controls among them. given: vectors that were handed in, by name. k: of
    precision@k where one is tested. cache: folder of word vectors and finished cells; None keeps none.
    planned: the memory plan, whose `computation` is the one that is used. left_out: evidence that there is no
    memory for, in sentences; see `leave_out`.

    What is kept, and when it goes:

    - Word vectors are made once, into files below `cache`; in memory is one of `model_groups` at a time.
    - Responses are in memory for one of `subject_chunks` at a time; those of `first` stay, as the memory plan
      counted them.
    - Folds, prepared responses and prepared layers belong to the `Workbench` of one chunk and group.
    - Finished scores and null draws are cells below `cache`, of which a later run computes what is missing.
    """

    dataset: Dataset
    models: tuple[str, ...]
    scoring: Scoring
    computation: Computation = Computation()
    embedding: Embedding = Embedding()
    evidence: EvidencePlan | None = None
    group_decoding: tuple[str, ...] = ()
    k: int = 10
    given: Mapping[str, Embeddings] = dataclasses.field(default_factory=dict)
    cache: Path | None = None
    progress: Progress = dataclasses.field(default_factory=lambda: Progress({}, show=False))
    first: WordResponses | None = None
    planned: memory.Plan | None = None
    left_out: list[str] = dataclasses.field(default_factory=list)

    @property
    def cells(self) -> Path | None:
        """The folder of finished cells."""
        return self.cache and self.cache / "cells"

    def leave_out(self, what: str, needed: int) -> None:
        """Warn of evidence that takes more bytes than there are for it, and keep it for the report."""
        said = (
            f"no {what}: it takes {needed:,} bytes, more than the {self.computation.rdm_bytes:,} that are "
            "for it; give more memory (--max_memory_gb)"
        )
        self.left_out.append(said)
        warnings.warn(said, stacklevel=3)

    def vectors(self, name: str, told: Callable[[float], None] | bool = False) -> Embeddings:
        """A model's vectors of the data set's words, from the cache if they are there.

        told: of the shares of the work, see `embed`.
        """
        if name in self.given:
            return self.given[name]
        lower, seed = self.scoring.lower, self.scoring.seed
        if is_control(name):
            return control_vectors(name, self.dataset, lower=lower, seed=seed)
        own_seed = seed_of(name)
        spans = self.dataset.spans
        vectors = (embed if spans is None else embed_spans)(
            self.dataset.stimulus if spans is None else spans,
            without_seed(name),
            lower=lower,
            seed=seed if own_seed is None else own_seed,
            progress=told,
            cache_dir=self.cache and self.cache / "embeddings",
            **vars(self.embedding),
        )
        return dataclasses.replace(vectors, model=name)

    def all_vectors(self, progress: Progress) -> list[Embeddings]:
        """The vectors of all models at once, each told to the stage VECTORS of the progress."""
        vectors = []
        with progress.stage(VECTORS):
            for name in self.models:
                vectors.append(self.vectors(name))
                progress.update()
        return vectors

    def shapes(self, name: str) -> Blocks:
        """(layers, types, width) of each block of layers of equal width, before a model is run."""
        without_checkpoint = name in self.given or is_control(name)
        spec = None if without_checkpoint else resolve(without_seed(name))
        if spec is None or spec.kind == "static":
            return [values.shape for _, values in self.vectors(name).blocks()]
        folder = checkpoint.locate(spec.source, weights=spec.kind == "checkpoint")
        config = checkpoint.read_architecture(folder, family=spec.family)
        if spec.kind == "checkpoint":
            checkpoint.weight_files(folder)
        n_types = len(self.dataset.stimulus.types(lower=self.scoring.lower)[0])
        return [(n_layers_of(config, self.embedding.sublayers) + 1, n_types, config.width)]

    def share(self) -> dict[int, list[str]]:
        """Subject -> models of which this process makes the cells: neighbours together."""
        models_of: dict[int, list[str]] = {}
        for cell in processes.block(len(self.models) * len(self.dataset.subjects)):
            subject, model = divmod(cell, len(self.models))
            models_of.setdefault(subject, []).append(self.models[model])
        return models_of

    def subject_chunks(self) -> Iterator[tuple[list[WordResponses], list[str]]]:
        """Responses of subjects of this process's share with the same models, as many as memory holds."""
        chunk: list[WordResponses] = []
        models: list[str] = []
        for subject, wanted in self.share().items():
            responses = self.first if subject == 0 else None
            if responses is None:
                responses = self.dataset.load(self.dataset.subjects[subject])
            held = sum(map(memory.held_bytes, [*chunk, responses]))
            if chunk and (held > self.planned.responses_bytes or wanted != models):
                yield chunk, models
                chunk = []
            chunk, models = [*chunk, responses], wanted
        if chunk:
            yield chunk, models

    def model_groups(self, names: Sequence[str]) -> Iterator[list[Embeddings]]:
        """Vectors of the models, as many at a time as memory holds."""
        group: list[Embeddings] = []
        for name in names:
            vectors = self.vectors(name)
            held = sum(known.values.nbytes for known in [*group, vectors])
            if group and held > self.planned.embeddings_bytes:
                yield group
                group = []
            group.append(vectors)
        if group:
            yield group

    def asked(self) -> dict[str, Any]:
        """What processes that share a study must have been asked alike, JSON-serialisable."""
        return {
            "dataset": {"name": self.dataset.name, "subjects": self.dataset.subjects},
            "words": self.dataset.stimulus.fingerprint(attributes=False),
            "models": self.models,
            "vectors": {name: vectors.fingerprint() for name, vectors in self.given.items()},
            "scoring": dataclasses.asdict(self.scoring),
            "methods": [identity_of(name) for name in self.scoring.methods],
            "embedding": vars(self.embedding),
            "computation": {
                name: getattr(self.computation, name) for name in ("dtype", "precision")
            },
            "evidence": self.evidence and dataclasses.asdict(self.evidence),
            "report_k": self.k,
            "group_decoding": self.group_decoding,
        }


def fitting_scoring(dataset: Dataset, scoring: Scoring | None) -> Scoring:
    """The scoring with a protocol: the audited one that fits the words, where none was chosen."""
    words = dataset.stimulus
    fitting = dict(timed=words.onsets is not None, grouped=words.run is not None)
    scoring = scoring or Scoring()
    if scoring.protocol is None:
        scoring = dataclasses.replace(scoring, protocol=protocol("audited", **fitting))
    return scoring
