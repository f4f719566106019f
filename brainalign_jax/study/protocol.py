"""The choices of a study as plain data: the paper's protocol and an audited one."""

import dataclasses
from typing import Any

from brainalign_jax.names import check_known
from brainalign_jax.options import described, option_class


@option_class
class Protocol:
    """Everything that decides a score, apart from the data and the model."""

    name: str = described("The protocol whose choices these are.", flag="")
    folds: str = described(
        "How test words are set apart: contiguous blocks of the text in order, shuffled_types (word types "
        "drawn at random), shuffled_runs (runs, or passages of sentences, drawn as a whole), leave_run_out.",
        choices=("contiguous", "shuffled_types", "shuffled_runs", "leave_run_out"),
    )
    n_folds: int = described("Number of blocks or draws.", least=2)
    purge: float = described(
        "Seconds on either side of a test block whose words are left out of the training.",
        least=0,
        most=86400,
    )
    hold_out_types: bool = described(
        "Of a block only those words are tested that occur nowhere outside of it, without regard to case "
        "(shuffled_types folds hold words out in any case)."
    )
    queries: str = described(
        "What is decoded: the mean response of each word type, or every token's own.",
        choices=("types", "tokens"),
    )
    center: bool = described(
        "Subtract the training means of brain and model, before Procrustes and before cosines; the means "
        "over all words before RDMs."
    )
    n_voxels: int = described(
        "Voxels kept, those most informative about the model's embedding layer (Pereira et al. 2018, "
        "neural.selection.informativeness); 0 keeps all.",
        least=0,
    )
    scaling: str = described(
        "Scaling of brain features: minmax to 0..1, zscore to mean 0 and deviation 1.",
        choices=("none", "minmax", "zscore"),
    )
    pca: str = described(
        "model_width reduces the responses to min(rows, features, model width) principal axes.",
        choices=("none", "model_width"),
    )
    pca_for: str = described(
        "Methods whose responses pca reduces: all, or all_but_ridge.",
        choices=("all", "all_but_ridge"),
    )
    scaling_order: str = described(
        "Scaling, of brain and model, before_pca or after_pca: then every axis is scaled, however little "
        "it varies.",
        choices=("before_pca", "after_pca"),
    )
    vector_scaling: str = described(
        "Scaling of the model's vectors over the word types (see fitted_on): minmax, each dimension to 0..1; "
        "zscore, to mean 0 and deviation 1; abtt, all but the top: without the mean and the first principal "
        "axes, one for each hundred dimensions (Mu and Viswanath 2018).",
        choices=("none", "minmax", "zscore", "abtt"),
    )
    vector_scaling_for: str = described(
        "Methods whose vectors are scaled: all, or all_but_procrustes.",
        choices=("all", "all_but_procrustes"),
    )
    fitted_on: str = described(
        "What voxel selection, scaling and PCA are fitted on: each fold's training rows, or all_rows, the "
        "test rows included (the model's vectors then get no more axes than the responses have).",
        choices=("training", "all_rows"),
    )
    alphas: tuple[float, ...] = described("Ridge penalties that are tried.", least=1e-12, most=1e12)
    alpha_unit: str = described(
        "Penalties times the mean training kernel diagonal (kernel), or absolute.",
        choices=("kernel", "absolute"),
    )
    alpha_selection: str = described(
        "What chooses the penalty in the inner folds: retrieval (one for all targets, by the mean rank of "
        "the true word), error_per_target or error_shared (by squared error), r2_per_target (by the sum "
        "over the inner folds of 1 - R2, each by its own variance).",
        choices=("retrieval", "error_per_target", "error_shared", "r2_per_target"),
    )
    n_inner_folds: int = described("Inner folds within each training set.", least=2)
    inner_shuffle: bool = described(
        "Draw the inner folds, of runs where the outer folds are, instead of taking blocks."
    )
    fit_intercept: bool = described("Ridge shrinks toward the training mean (else toward zero).")
    csls_k: int = described("Neighbours of CSLS.", least=1)
    csls_queries: str = described(
        "Whose predictions are the neighbours of a candidate in CSLS: those of the tested words of its "
        "fold, or all_words: of the tested words of all folds by ridge, of the training words, too, by "
        "Procrustes (decoding by similarities keeps to its fold).",
        choices=("fold", "all_words"),
    )
    candidate_scaling: str = described(
        "spread divides each candidate's similarities by their root mean square over the training words: "
        "undivided, words that were trained on crowd the top ranks.",
        choices=("spread", "none"),
    )
    layer_selection: str = described(
        "Where the layer that stands for a model is chosen: in the inner folds, or on the test words.",
        choices=("inner_folds", "test"),
    )
    vector_axes: int = described(
        "Principal axes of every model's vectors, fitted on the training words; -1: the smallest width of "
        "the models that are compared, 0: all. Wider vectors score higher by their width alone.",
        least=-1,
    )
    first_token: str = described(
        "What stands before each text that a causal model reads where bos is auto: the model's own first "
        "token, or what its tokenizer puts there (often nothing).",
        choices=("model", "tokenizer"),
        flag="",
    )
    rdm_metric: str = described(
        "Dissimilarity of two words' vectors. crossnobis: of responses to words that were presented twice or "
        "more, cross-validated and in units of their noise, against squared distances of the model's vectors "
        "(words are then decoded by correlations).",
        choices=("correlation", "cosine", "euclidean", "spearman", "crossnobis"),
    )
    rdm_parts: str = described(
        "Parts of the data whose noise crossnobis takes to be independent. runs: the runs, of words that "
        "occur in every run that has repeated words; presentations: a word's first, second, ..., in "
        "different runs where there are runs; auto: runs where that leaves out no repeated word, else "
        "presentations.",
        choices=("auto", "runs", "presentations"),
    )
    rdm_comparison: str = described(
        "Similarity of two RDMs. cosine_cov, corr_cov: whitened, as distances of one word share its noise.",
        choices=("pearson", "spearman", "kendall_tau_a", "cosine_cov", "corr_cov"),
    )

    @property
    def selects_per_target(self) -> bool:
        """Whether ridge has a penalty for each dimension of the vectors."""
        return self.alpha_selection.endswith("_per_target")

    @property
    def scales_in_folds(self) -> bool:
        """Whether the model's vectors are scaled by each fold's training words."""
        return self.vector_scaling != "none" and self.fitted_on == "training"

    def of_method(self, method: str) -> "Protocol":
        """The choices as one method takes them: what is not meant for it is switched off."""
        changed: dict[str, Any] = {}
        if method == "ridge" and self.pca_for == "all_but_ridge":
            changed["pca"] = "none"
        if method == "procrustes" and self.vector_scaling_for == "all_but_procrustes":
            changed["vector_scaling"] = "none"
        return dataclasses.replace(self, **changed)

    def shared_by(self, what: str) -> "Protocol":
        """The choices as a study takes them whose problems share the prepared responses: `what`, in words.

        Raises: ValueError for a choice that would prepare responses or vectors in each fold.
        """
        for name in ("scaling", "pca", "vector_scaling", "n_voxels"):
            if getattr(self, name) not in ("none", 0):
                raise ValueError(
                    f"{name}={getattr(self, name)} has no place in {what} share the prepared responses: "
                    f"give {'0' if name == 'n_voxels' else 'none'}"
                )
        return dataclasses.replace(
            self, layer_selection="inner_folds", csls_queries="fold", queries="types"
        )

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
    pca_for="all",
    scaling_order="before_pca",
    vector_scaling="none",
    vector_scaling_for="all",
    fitted_on="training",
    alphas=tuple(10.0**power for power in range(-3, 5)),
    alpha_unit="kernel",
    alpha_selection="retrieval",
    n_inner_folds=5,
    inner_shuffle=False,
    fit_intercept=True,
    csls_k=10,
    csls_queries="fold",
    candidate_scaling="spread",
    layer_selection="inner_folds",
    vector_axes=-1,
    first_token="model",
    rdm_metric="correlation",
    rdm_parts="auto",
    rdm_comparison="spearman",
)

# What the code of Li et al. 2023 does: docs/protocols.md has it beside what their text reads like.
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
    pca_for="all_but_ridge",
    scaling_order="after_pca",
    vector_scaling="minmax",
    vector_scaling_for="all",
    fitted_on="all_rows",
    alphas=tuple(10.0**power for power in range(-6, 10)),
    alpha_unit="absolute",
    alpha_selection="r2_per_target",
    n_inner_folds=10,
    inner_shuffle=False,
    fit_intercept=False,
    csls_k=100,
    csls_queries="all_words",
    candidate_scaling="none",
    layer_selection="test",
    vector_axes=0,
    first_token="tokenizer",
    rdm_metric="spearman",
    rdm_parts="auto",
    rdm_comparison="spearman",
)

PROTOCOLS = {"audited": AUDITED, "paper": PAPER}
# What is one choice: name -> its fields, in the order of the walk from the paper's to the audited protocol.
STEPS = {
    "folds": ("folds", "n_folds", "purge", "n_inner_folds", "inner_shuffle"),
    "hold_out_types": ("hold_out_types",),
    "queries": ("queries",),
    "csls_queries": ("csls_queries",),
    "scaling_order": ("scaling_order", "pca_for"),
    "vector_scaling": ("vector_scaling", "vector_scaling_for"),
    "fitted_on": ("fitted_on",),
    "scaling": ("n_voxels", "scaling", "pca"),
    "centring": ("center", "fit_intercept"),
    "alpha": ("alpha_unit", "alphas", "alpha_selection"),
    "csls_k": ("csls_k",),
    "candidate_scaling": ("candidate_scaling",),
    "layer": ("layer_selection", "vector_axes"),
    "first_token": ("first_token",),
    "rdms": ("rdm_metric", "rdm_comparison"),
}


def protocol(
    name: str, *, timed: bool = True, grouped: bool = False, dataset: str = "", **overrides
) -> Protocol:
    """The named protocol with overrides of its fields (None leaves a field as it is).

    timed: whether the words have onsets. Isolated items have no neighbours in time, and their order
    (often alphabetical) is no order of presentation: the audited protocol then draws its folds at
    random and needs no purge. grouped: whether isolated items come in runs, as sentences do in
    passages: these share their topic, and are then drawn as a whole. dataset: its name; the paper's code
    leaves the vectors unscaled for Procrustes on the data of Pereira et al.

    Raises: ValueError for an unknown protocol, field or choice.

    >>> import brainalign_jax as ba
    >>> ba.protocol("audited", n_folds=10).folds
    'contiguous'
    >>> ba.protocol("paper").folds
    'shuffled_types'
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
    if name == "paper" and dataset.startswith("pereira"):
        chosen = dataclasses.replace(chosen, vector_scaling_for="all_but_procrustes")
    known = [field.name for field in dataclasses.fields(Protocol) if field.name != "name"]
    for field in overrides:
        check_known("field", field, known, of="a protocol", listing="help(Protocol)")
    changes = {field: value for field, value in overrides.items() if value is not None}
    return dataclasses.replace(chosen, **changes)
