"""How many people, words and repetitions does a study need, from a pilot?

    python -m experiments.plan_study --pilot=OUT --method=ridge --output_dir=out/plan

Half a minute. OUT is a folder of `brainalign align`, `generalise` or `ablate`. Writes plan.parquet (a row
a number of people, words and repetitions), needed.parquet, figures/, manifest.json and report.html.
docs/planning.md has what is to be expected. The same as `brainalign plan-study`.
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.plan_study import PLAN_STUDY as COMMAND

main = absl_main(COMMAND, __name__, "python -m experiments.plan_study")

if __name__ == "__main__":
    app.run(main)
