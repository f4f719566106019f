"""Experiments as a user runs them: in a process of their own, since their flags share names."""

import subprocess
import sys


def run_experiment(name: str, settings: dict) -> subprocess.CompletedProcess:
    """`python -m experiments.NAME --key=value ...`, finished; output and errors as text."""
    flags = [f"--{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", f"experiments.{name}", *flags]
    return subprocess.run(command, capture_output=True, text=True)


def fixed(choices: dict) -> str:
    """Choices of a protocol as the value of --fixed."""
    return ",".join(f"{name}={value}" for name, value in choices.items())
