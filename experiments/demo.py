"""The whole path on a simulated recording: plant a layer in three simulated brains, find it again.

    make demo          (or: python -m experiments.demo --output_dir=out/demo, or: brainalign demo)

The beginning of a story is read, word by word, by 3 SIMULATED subjects. Their word responses are planted
from one layer of a language model, sent through haemodynamics, scanner noise and runs with gaps, written
as Harry Potter .mat files and read back as a real recording would be. The sweep over all layers of
that model and of its untrained twin must then find the planted layer.

About a minute on 2 cores. Expect "planted layer 2, found layer 2" by all three methods, P@10 of .33 to .35
where chance is .091, the untrained twin at .13 to .16, p = .01, and the answer "Yes".
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.demo import DEMO

main = absl_main(DEMO, __name__, "python -m experiments.demo")

if __name__ == "__main__":
    app.run(main)
