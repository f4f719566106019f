"""Does alignment go with what models can do?

    python -m experiments.performance --scores=OUT1,OUT2 --tasks=../shared/data/pythia_evals \
        --task_names='lambada_openai:acc,piqa:acc' --output_dir=out/performance

Seconds. Writes OUT/performance.parquet (a row a data set and task), OUT/models.parquet (the values behind
it), OUT/trajectories.parquet, OUT/figures, OUT/manifest.json and OUT/report.html. docs/performance.md has
what is to be expected. The same as `brainalign performance`.
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.performance import PERFORMANCE as COMMAND

main = absl_main(COMMAND, __name__, "python -m experiments.performance")

if __name__ == "__main__":
    app.run(main)
