"""Claims of papers, tried by their own protocol and then by audited evidence.

    python -m experiments.claims --action=run --data_dir=../shared/data --models_dir=models
    --output_dir=out/claims

Writes OUT/claims.parquet (a row a claim: published, here, outcome, why), OUT/claims.md, OUT/figures/,
OUT/manifest.json, OUT/report.html and each study in OUT/studies. The same as `brainalign claims`. Expect a
minute or two of processor time for the claims of the package on pereira180 and alice; docs/claims.md has
the table.
"""

from absl import app

from brainalign_jax.commands.claims import CLAIMS as COMMAND
from brainalign_jax.commands.command import absl_main

main = absl_main(COMMAND, __name__, "python -m experiments.claims")

if __name__ == "__main__":
    app.run(main)
