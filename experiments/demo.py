"""The whole path on a simulated recording: plant a layer in four simulated brains, find it again.

    make demo          (or: python -m experiments.demo --output_dir=out/demo, or: brainalign demo)

The beginning of a story is read, word by word, by 4 SIMULATED subjects. Their word responses are planted
from one layer of a language model, sent through haemodynamics, scanner noise and runs with gaps, written
as Harry Potter .mat files and read back as a real recording would be. The sweep over all layers of
that model and of its untrained twin must then find the planted layer.

About a minute on 2 cores. Expect "planted layer 2, found layer 2" by all three methods, P@10 of .32 to .36
where chance is .081, the untrained twin at .12 to .15, p = .01, and the answer "Yes".
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.demo import DEMO

main = absl_main(DEMO, __name__, "python -m experiments.demo")

if __name__ == "__main__":
    app.run(main)
