# SPDX-License-Identifier: MIT
"""The commands of examples/, benchmarks/ and tools/."""

import pytest
from support import ROOT, run_program

OPTIONAL = ["matplotlib", "scipy", "pandas", "torch", "jax", "wfdb", "mlxtend", "hypothesis"]
OPTIONAL += ["cosmic_ray", "sleepecg", "nitime", "sktime"]


@pytest.mark.parametrize("folder", ["examples", "benchmarks", "tools"])
def test_help_needs_no_optional_package(folder):
    scripts = [
        path
        for path in sorted((ROOT / folder).glob("*.py"))
        if "ArgumentParser(" in path.read_text()
    ]
    assert scripts
    assert run_program("help.py", ",".join(OPTIONAL), *scripts) == ""
