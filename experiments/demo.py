"""The whole path on a simulated recording: plant a layer in eight simulated brains, find it again.

    make demo          (or: python -m experiments.demo --output_dir=out/demo)

A short story is read, word by word, by 8 SIMULATED subjects. Their word responses are planted from
one layer of a language model, sent through haemodynamics, scanner noise and runs with gaps, written
as Harry Potter .mat files and read back as a real recording would be. The sweep over all layers of
that model and of its untrained twin must then find the planted layer.

7.4 minutes of processor time, most of them for the null draws: 10 to 16 minutes on 2 cores that other work
kept busy. Expect "planted layer 2, found layer 2" by all three methods, P@10 .908 (Procrustes), .764 (ridge)
and .736 (RSA) where chance is .034 and the null gives .030 to .038, the untrained twin at .13 to .16, and the
answer "Yes".
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.demo import DEMO

main = absl_main(DEMO, "python -m experiments.demo")

if __name__ == "__main__":
    app.run(main)
