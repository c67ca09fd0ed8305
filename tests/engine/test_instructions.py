# SPDX-License-Identifier: MIT
"""The CPU engine's code for older processors, which the newest one here would never run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, run_program

AVX2 = " avx2 " in Path("/proc/cpuinfo").read_text()


@pytest.mark.parametrize("most", ["baseline", "avx2"])
def test_random_problems(most):
    """Runs tools/fuzz.py, which checks against float64."""
    command = [sys.executable, str(ROOT / "tools" / "fuzz.py"), "--problems", "120", "--seed", "2"]
    environment = {**os.environ, "TF_PLR_INSTRUCTIONS": most, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and ", 0 failed" in done.stdout, done.stdout[-3000:]


@pytest.mark.skipif(not AVX2, reason="this processor has no AVX2")
def test_the_switch_switches():
    """Processors with AVX2 have fused multiply-adds, which round once; x86-64-v2 has none."""
    found = {
        most: run_program("rounding.py", TF_PLR_INSTRUCTIONS=most, CUDA_VISIBLE_DEVICES="-1")
        for most in ("baseline", "avx2", "all")
    }
    assert found["baseline"] != found["avx2"] == found["all"]
