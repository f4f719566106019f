"""Is what follows from an idiom or a metaphor nearer to it, layer by layer, than what does not?

    python -m experiments.figurative --data_dir=../shared/data/impli --models=FOLDER \
        --output_dir=out/figurative

A pass of each model and of its untrained twin through all texts, then half a minute of tests. With the 2,401
texts of IMPLI on two cores: MiniLM 20 s a pass, SmolLM2-135M 150 s. Expect "in part": by MiniLM what follows
is nearer in .64 of 702 sentences, by words in common alone in .44; idioms are nearer to a literal reading.

Writes OUT/figurative.parquet (a row a share or difference, condition and layer), OUT/figures/,
OUT/manifest.json and OUT/report.html. The same as `brainalign figurative`.
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.figurative import FIGURATIVE as COMMAND

main = absl_main(COMMAND, __name__, "python -m experiments.figurative")

if __name__ == "__main__":
    app.run(main)
