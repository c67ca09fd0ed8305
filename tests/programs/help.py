# SPDX-License-Identifier: MIT
"""Runs commands with --help, as if some packages were not installed; names those that fail."""

import contextlib
import io
import runpy
import sys
from pathlib import Path

packages, *scripts = sys.argv[1:]
for package in packages.split(","):
    sys.modules[package] = None
for script in scripts:
    sys.argv = [script, "--help"]
    sys.path.insert(0, str(Path(script).parent))
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(script, run_name="__main__")
        code = "it did not end"
    except SystemExit as error:
        code = error.code
    except Exception as error:
        code = f"{type(error).__name__}: {error}"
    if code or "usage: " not in printed.getvalue():
        print(script, code)
    sys.path.pop(0)
