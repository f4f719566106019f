"""Processes of their own: experiments as a user runs them, programs that see several devices."""

import os
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


def with_devices(count: int) -> dict[str, str]:
    """This environment for a process that finds so many devices on the CPU."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    return {**os.environ, "XLA_FLAGS": flags}
