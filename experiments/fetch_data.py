"""Download a public release of recordings, once and verified, into the layout its reader expects.

    python -m experiments.fetch_data --name=harry_potter --subjects=1,2 --data_dir=data

The time is that of the connection: a recording is some hundred MB a subject, a participant of
pereira2018 may be more than a GB, alice is 4 MB of tables and the audio. A call that was cut goes on
where it ended; one where nothing is missing takes some seconds. --name=list shows what there is.

Prints licence and citation, and at the end the folder alone on standard output, so that
    python -m experiments.run_alignment --dataset=alice \
        --data_dir=$(python -m experiments.fetch_data --name=alice) ...
works. Without --data_dir the folder is in $BRAINALIGN_DATA, or else in the user's cache. Expect
data/harry_potter with subject_1.mat, subject_2.mat and downloads.json, the record of checksums.
"""

from absl import app

from brainalign_jax.commands.catalog import FETCH
from brainalign_jax.commands.command import absl_main

main = absl_main(FETCH, __name__, "python -m experiments.fetch_data")

if __name__ == "__main__":
    app.run(main)
