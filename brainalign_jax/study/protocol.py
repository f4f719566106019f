"""The choices of a study as plain data: the paper's protocol and an audited one."""

import dataclasses
from dataclasses import dataclass

from brainalign_jax.names import check_known

CHOICES = {
    "folds": ("contiguous", "shuffled_types", "shuffled_runs", "leave_run_out"),
    "queries": ("types", "tokens"),
    "scaling": ("none", "minmax", "zscore"),
    "pca": ("none", "model_width"),
    "fitted_on": ("training", "all_rows"),
    "alpha_unit": ("kernel", "absolute"),
    "alpha_selection": ("retrieval", "error_per_target", "error_shared"),
    "candidate_scaling": ("spread", "none"),
    "layer_selection": ("inner_folds", "test"),
    "rdm_metric": ("correlation", "cosine", "euclidean", "spearman"),
    "rdm_comparison": ("pearson", "spearman", "kendall_tau_a"),
}


@dataclass(frozen=True)
class Protocol:
    """Everything that decides a score, apart from the data and the model.

    name: "audited" or "paper".
    folds: "contiguous" blocks of the text in order, "shuffled_types" (word types drawn at random),
      "shuffled_runs" (runs, or passages of sentences, drawn as a whole) or "leave_run_out".
    n_folds: number of blocks or draws.
    purge: seconds on either side of a test block whose words are left out of the training.
    hold_out_types: of a block only those words are tested that occur nowhere outside of it
      ("shuffled_types" folds hold words out in any case). Case does not count.
    queries: decode the mean response of each word type, or every token's own.
    center: subtract the training means of brain and model, before Procrustes and before cosines; the means
      over all words before RDMs.
    n_voxels: keep so many voxels, those that are most informative about the model's embedding layer
      (Pereira et al. 2018, see `neural.selection.informativeness`); 0 keeps all.
    scaling: "minmax" scales each brain feature to 0..1, "zscore" to mean 0 and deviation 1.
    pca: "model_width" reduces the responses to min(rows, features, model width) principal axes.
    fitted_on: what voxel selection, scaling and PCA are fitted on, in this order: each fold's "training"
      rows, or "all_rows", the test rows included; the model's vectors are then reduced to no more axes
      than the responses have, too. Inner folds use what was fitted on the whole training set.
    alphas: ridge penalties, times the mean training kernel diagonal ("kernel") or "absolute".
    alpha_selection: "retrieval" (one alpha for all targets, by the mean rank of the true word in the
      inner folds), "error_per_target" or "error_shared" (by squared error).
    n_inner_folds, inner_shuffle: the inner folds, within each training set. Unshuffled ones are
      blocks; shuffled ones are drawn, of runs where the outer folds are. Purge and held-out types
      apply to them too.
    fit_intercept: ridge shrinks toward the training mean (True) or toward zero.
    csls_k: neighbours of CSLS.
    candidate_scaling: "spread" divides each candidate's similarities by their root mean square over
      the training words. A candidate that was trained on has a wider spread than the tested words;
      undivided ("none"), training words crowd the top ranks and pure noise scores below chance.
    layer_selection: where the layer is chosen whose score stands for the model: in the "inner_folds" of each
      fold, by the mean rank of the true word (by r2 where alphas are chosen by error), or on the "test"
      words themselves. Every layer's own score is reported in any case.
    vector_axes: reduce the vectors of every model to so many principal axes, fitted on the training words
      of each fold; -1 takes the smallest width of the models that are compared, 0 keeps all axes. Wider
      vectors score higher by their width alone.
    rdm_metric, rdm_comparison: dissimilarity of two words, similarity of two RDMs.
    """

    name: str
    folds: str
    n_folds: int
    purge: float
    hold_out_types: bool
    queries: str
    center: bool
    n_voxels: int
    scaling: str
    pca: str
    fitted_on: str
    alphas: tuple[float, ...]
    alpha_unit: str
    alpha_selection: str
    n_inner_folds: int
    inner_shuffle: bool
    fit_intercept: bool
    csls_k: int
    candidate_scaling: str
    layer_selection: str
    vector_axes: int
    rdm_metric: str
    rdm_comparison: str

    def __post_init__(self):
        for field, known in CHOICES.items():
            check_known(f"{field}=", getattr(self, field), known)
        for field, least in (
            ("n_folds", 2),
            ("n_inner_folds", 2),
            ("csls_k", 1),
            ("purge", 0),
            ("n_voxels", 0),
            ("vector_axes", -1),
        ):
            if not getattr(self, field) >= least:
                raise ValueError(f"{field}={getattr(self, field)} must be at least {least}")
        if not self.alphas or min(self.alphas) <= 0:
            raise ValueError(f"alphas must be one or more positive numbers, not {self.alphas}")

    def fields(self) -> dict:
        """The choices as a JSON-serialisable dict."""
        return dataclasses.asdict(self)


AUDITED = Protocol(
    name="audited",
    folds="contiguous",
    n_folds=5,
    purge=10.0,
    hold_out_types=True,
    queries="types",
    center=True,
    n_voxels=0,
    scaling="none",
    pca="none",
    fitted_on="training",
    alphas=tuple(10.0**power for power in range(-3, 5)),
    alpha_unit="kernel",
    alpha_selection="retrieval",
    n_inner_folds=5,
    inner_shuffle=False,
    fit_intercept=True,
    csls_k=10,
    candidate_scaling="spread",
    layer_selection="inner_folds",
    vector_axes=-1,
    rdm_metric="correlation",
    rdm_comparison="spearman",
)

# Li et al. 2023: see the class for what each choice means.
PAPER = Protocol(
    name="paper",
    folds="shuffled_types",
    n_folds=4,
    purge=0.0,
    hold_out_types=False,
    queries="tokens",
    center=False,
    n_voxels=0,
    scaling="minmax",
    pca="model_width",
    fitted_on="all_rows",
    alphas=tuple(10.0**power for power in range(-6, 10)),
    alpha_unit="absolute",
    alpha_selection="error_per_target",
    n_inner_folds=10,
    inner_shuffle=False,
    fit_intercept=False,
    csls_k=100,
    candidate_scaling="none",
    layer_selection="test",
    vector_axes=0,
    rdm_metric="spearman",
    rdm_comparison="spearman",
)

PROTOCOLS = {"audited": AUDITED, "paper": PAPER}


def protocol(name: str, *, timed: bool = True, grouped: bool = False, **overrides) -> Protocol:
    """The named protocol with fields overridden (None leaves a field as it is).

    timed: whether the words have onsets. Isolated items have no neighbours in time, and their order
    (often alphabetical) is no order of presentation: the audited protocol then draws its folds at
    random and needs no purge. grouped: whether isolated items come in runs, as sentences do in
    passages: these share their topic, and are then drawn as a whole.

    Raises: ValueError for an unknown protocol, field or choice.
    """
    check_known("protocol", name, PROTOCOLS)
    chosen = PROTOCOLS[name]
    if name == "audited" and not timed:
        chosen = dataclasses.replace(
            chosen,
            folds="shuffled_runs" if grouped else "shuffled_types",
            inner_shuffle=True,
            purge=0.0,
            n_folds=10,
        )
    known = [field.name for field in dataclasses.fields(Protocol) if field.name != "name"]
    for field in overrides:
        check_known("field", field, known, of="a protocol", listing="help(Protocol)")
    given = {field: value for field, value in overrides.items() if value is not None}
    return dataclasses.replace(chosen, **given)
