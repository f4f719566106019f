"""`brainalign claims`: papers as executable statements, by their own protocol and by audited evidence."""

from typing import Any

from brainalign_jax.commands.align import DATA, MODEL, PROGRESS
from brainalign_jax.commands.command import Command, say_finished
from brainalign_jax.commands.ending import REFUSED, Misuse, misuse
from brainalign_jax.names import check_known
from brainalign_jax.options import Option

CLAIMS_OPTIONS = (
    Option(
        "action",
        "choice",
        None,
        "list: what claims there are; show: what one says and asks; run: try them.",
        choices=("list", "show", "run"),
        required=True,
        positional=True,
    ),
    Option(
        "names",
        "list",
        (),
        "Claims, by the names that list gives, with commas or blanks between them; all if not given.",
        positional=True,
    ),
    Option(
        "claims",
        "list",
        (),
        "Claim files (.toml), or folders of them, of your own in place of those of the package.",
    ),
    Option(
        "data_dir",
        "path",
        None,
        "Folder in which the releases' folders are; by default $BRAINALIGN_DATA.",
        DATA,
    ),
    Option(
        "data_dirs",
        "paths",
        (),
        "Folders of single data sets, in place of those in --data_dir.",
        DATA,
    ),
    Option("output_dir", "path", None, "Folder to write to; of run, which needs one.", DATA),
    Option(
        "models_dir",
        "path",
        None,
        "Folder in which models' folders are, by the last part of their names; the Hugging Face cache is "
        "looked through, too, and nothing is downloaded.",
        MODEL,
    ),
    Option(
        "model_dirs",
        "paths",
        (),
        "Folders of single models, by the names that claims have for them.",
        MODEL,
    ),
    PROGRESS,
)


def _claims(values: dict[str, Any], text: str) -> int | None:
    from brainalign_jax.studies.claims import claim_files
    from brainalign_jax.studies.claims.outcomes import REFUSED as OUTCOME_REFUSED

    action = values["action"]
    if action == "run" and values["output_dir"] is None:
        raise Misuse("--output_dir is missing: give a folder to write to")
    claims = claim_files.read_claims(values["claims"])
    with misuse():
        for name in values["names"]:
            known = [claim.name for claim in claims]
            check_known("claim", name, known, listing="`brainalign claims list`")
        if action == "show" and len(values["names"]) != 1:
            raise ValueError("`claims show` takes the name of one claim; `claims list` has them")
    chosen = [c for c in claims if not values["names"] or c.name in values["names"]]
    if action == "list":
        for claim in chosen:
            print(f"{claim.name}: {claim.title} ({claim.cited()})")
        return None
    if action == "show":
        print(chosen[0].path.read_text("utf-8").rstrip())
        return None
    from brainalign_jax.studies.claims import run_claims

    table = run_claims(
        chosen,
        values["output_dir"],
        data_dir=values["data_dir"],
        datasets=dict(values["data_dirs"]),
        models_dir=values["models_dir"],
        models=dict(values["model_dirs"]),
        command=text,
        progress=values["progress"],
    )
    say_finished(table.verdict(), values["output_dir"])
    return REFUSED if (table.rows["outcome"] == OUTCOME_REFUSED).any() else None


CLAIMS = Command(
    "claims",
    "claims of papers, tried by their own protocol, then by audited evidence, in one table",
    (
        "claims list",
        "claims show pereira180_glove_m01",
        "claims run pereira180_glove_m01 pereira180_glove_m02 --data_dir=data --output_dir=out/claims",
        "claims run --data_dir=data --models_dir=models --output_dir=out/claims",
        "claims run --claims=mine.toml --data_dirs=alice=data/alice --output_dir=out/claims",
    ),
    CLAIMS_OPTIONS,
    _claims,
    "studies that are finished are kept, and the same command goes on from there",
)
