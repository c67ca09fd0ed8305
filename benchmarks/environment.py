# SPDX-License-Identifier: MIT
"""Where and with what a benchmark ran, for its result file."""

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path


def _output(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def environment(commit=""):
    """Pass `commit` if the sources are not in git. Only loaded modules' versions are listed."""
    found = {
        "date": datetime.date.today().isoformat(),
        "commit": commit or _output("git", "rev-parse", "--short", "HEAD"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
    }
    gpu = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if gpu:
        found["gpu"], found["driver"] = gpu.splitlines()[0].split(", ")
    names = ("tensorflow", "keras", "tf_plr", "torch", "jax", "numba")
    found.update({name: sys.modules[name].__version__ for name in names if name in sys.modules})
    if "tensorflow" in sys.modules and gpu:
        found["cuda"] = sys.modules["tensorflow"].sysconfig.get_build_info()["cuda_version"]
    if "torch" in sys.modules and gpu:
        found["cuda"] = sys.modules["torch"].version.cuda
    return found
