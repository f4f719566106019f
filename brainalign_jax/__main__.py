"""`python -m brainalign_jax`: the command `brainalign`."""

import sys

from brainalign_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
