"""Claims of papers, tried by their own protocol and then by audited evidence.

    python -m experiments.claims --action=run --data_dir=../shared/data \
        --model_dirs=sentence-transformers/all-MiniLM-L6-v2=FOLDER --output_dir=out/claims

Writes OUT/claims.parquet (a row a claim: published, here, outcome, why), OUT/claims.md, OUT/figures/,
OUT/manifest.json, OUT/report.html and each study in OUT/studies. The same as `brainalign claims`. Expect the
table of docs/claims.md in some minutes of processor time.
"""

from absl import app

from brainalign_jax.commands.claims import CLAIMS as COMMAND
from brainalign_jax.commands.command import absl_main

main = absl_main(COMMAND, __name__, "python -m experiments.claims")

if __name__ == "__main__":
    app.run(main)
