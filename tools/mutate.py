# SPDX-License-Identifier: MIT
"""Which changes of the Python sources does no test notice? See docs/contributing.md.

    python tools/mutate.py [--sample 100] [--seed 0]

cosmic-ray makes mutants of tf_plr/layers and tf_plr/_ops/linear_recurrence.py. The tests of the
changed module run on a random sample of the mutants, each in a copy of the sources. Prints the
mutants that pass.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COSMIC_RAY = Path(sys.executable).parent / "cosmic-ray"
NO_PYTHON = "this mutant is no Python"
COPIES = ROOT / "build" / "mutants"
OP = "tf_plr/_ops/linear_recurrence.py"
MODULES = ["tf_plr/layers", OP]
# Fast tests that catch most mutants come first: pytest stops at the first failure.
TESTS = {
    OP: [
        "layers/test_bad_input",
        *(f"ops/test_{name}" for name in ("keras_operation", "derivatives", "recurrence")),
        "ops/test_gradients",
    ],
    "": [
        f"layers/test_{name}"
        for name in ("arguments", "own_layers", "bad_input", "layers", "wrappers")
    ],
}
CONFIG = f"""
[cosmic-ray]
module-path = {MODULES}
timeout = 900.0
excluded-modules = []
test-command = "{sys.executable} tools/mutate.py --test"

[cosmic-ray.distributor]
name = "local"
"""


def copy_sources(folder):
    shutil.rmtree(folder, ignore_errors=True)
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    built = [
        f"tf_plr/_native/tf_plr_{name}.{suffix}"
        for name in ("engine", "ops")
        for suffix in ("so", "json")
    ]
    for name in [*files.stdout.splitlines(), *built]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (ROOT / name).is_dir():
            shutil.copy(ROOT / name, folder / name)
    shutil.copytree(folder / "tf_plr", folder / "original" / "tf_plr")


def run_tests():
    """Runs the tests of the mutated module. The current folder is a copy of the sources."""
    original = Path("original")
    changed = [
        str(path.relative_to(original))
        for path in original.rglob("*.py")
        if path.read_text() != path.relative_to(original).read_text()
    ]
    if changed:
        try:
            compile(Path(changed[0]).read_text(), changed[0], "exec")
        except SyntaxError:
            print(NO_PYTHON)
            return 1
    names = TESTS.get(changed[0] if changed else "", TESTS[""])
    files = [f"tests/{name}.py" for name in names]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not huge"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files], env=environment
    ).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.test:
        sys.exit(run_tests())
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

    folders = [COPIES / str(i) for i in range(os.cpu_count())]
    for folder in folders:
        copy_sources(folder)
        (folder / "config.toml").write_text(CONFIG)
    subprocess.run(
        [COSMIC_RAY, "init", "config.toml", "session.sqlite"], cwd=folders[0], check=True
    )
    for folder in folders[1:]:
        shutil.copy(folders[0] / "session.sqlite", folder)

    def sessions():
        return [use_db(str(folder / "session.sqlite"), WorkDB.Mode.open) for folder in folders]

    with sessions()[0] as session:
        # Skip mutants of `|`: in an annotation such as `int | None` it is no arithmetic.
        items = [
            item.job_id
            for item in session.work_items
            if not any("BinaryOperator_BitOr" in m.operator_name for m in item.mutations)
        ]
        everything = [item.job_id for item in session.work_items]
    chosen = random.Random(arguments.seed).sample(sorted(items), min(arguments.sample, len(items)))
    print(f"{len(chosen)} of {len(items)} mutants, in {len(folders)} processes", flush=True)
    for i, context in enumerate(sessions()):
        with context as session:
            skipped = set(everything) - set(chosen[i :: len(folders)])
            session.set_multiple_results(skipped, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))

    def execute(folder):
        command = [COSMIC_RAY, "exec", "config.toml", "session.sqlite"]
        subprocess.run(command, cwd=folder, check=True)

    with ThreadPoolExecutor() as pool:
        list(pool.map(execute, folders))
    survivors, none, late = [], 0, 0
    for context in sessions():
        with context as session:
            for _, result in session.results:
                if result.worker_outcome is not WorkerOutcome.SKIPPED:
                    assert result.worker_outcome is WorkerOutcome.NORMAL, result.output
                    none += NO_PYTHON in result.output
                    late += result.output == "timeout"
                    if result.test_outcome is TestOutcome.SURVIVED:
                        survivors.append(result.diff)
    print("\n\n".join(survivors))
    mutants = len(chosen) - none - late
    print(
        f"{mutants - len(survivors)} of {mutants} mutants were noticed "
        f"({none} were no Python, {late} timed out)"
    )


if __name__ == "__main__":
    main()
