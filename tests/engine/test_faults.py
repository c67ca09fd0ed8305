# SPDX-License-Identifier: MIT
"""Load and faults: many threads, forks, interrupts, kills, and memory that runs out."""

import subprocess
import sys
import threading

import keras
import numpy as np
from support import PROGRAMS, ROOT, build_and_run, needs_headers, run_program

import tf_plr


def test_calls_from_many_threads():
    command = [sys.executable, ROOT / "tools" / "load.py", "--calls", "2000", "--threads", "8"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_models_in_two_threads(rng):
    x = rng.normal(size=(8, 50, 3)).astype("float32")

    def trained(seed):
        layers = [keras.Input((None, 3)), tf_plr.GILRLSTM(8, seed=seed), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.set_weights([np.full_like(w, 0.01 * (seed + 1)) for w in model.get_weights()])
        model.compile("adam", "mse")
        model.fit(x, x[:, 0, :1], epochs=5, shuffle=False, verbose=0)
        return model.get_weights()

    expected = [trained(0), trained(1)]
    found = [None, None]

    def work(i):
        found[i] = trained(i)

    threads = [threading.Thread(target=work, args=[i]) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for actual, wanted in zip(found, expected, strict=True):
        for a, e in zip(actual, wanted, strict=True):
            np.testing.assert_array_equal(a, e)


def test_an_interrupt_in_fit_leaves_the_process_usable():
    run_program("interrupt.py")


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    program = "killed_training.py"
    whole, resumed = tmp_path / "whole.npz", tmp_path / "resumed.npz"
    run_program(program, tmp_path / "a", "", whole)
    killed = subprocess.run([sys.executable, PROGRAMS / program, tmp_path / "b", "kill", resumed])
    assert killed.returncode == -9 and not resumed.exists()
    run_program(program, tmp_path / "b", "", resumed)
    with np.load(whole) as expected, np.load(resumed) as actual:
        first, *weights = expected.files
        assert list(expected[first]) == [0, 1, 2, 3, 4, 5]
        assert list(actual[first]) == [3, 4, 5]
        for name in weights:
            np.testing.assert_array_equal(actual[name], expected[name])


def test_a_fork_can_use_the_op():
    """The child has one thread. TensorFlow promises no more for its own ops, and CUDA nothing."""
    run_program("fork.py", CUDA_VISIBLE_DEVICES="-1")


def test_no_memory_in_an_op():
    """Raises an error that names the cause; afterwards the process can go on."""
    run_program("no_memory.py", CUDA_VISIBLE_DEVICES="-1")


@needs_headers
def test_no_memory_in_the_cpu_engine(tmp_path):
    engine = (
        "broadcast_gradient", "causal_windows", "column_sums", "held_rows", "instantiate",
        "layer_normalization",
    )  # fmt: skip
    sources = ["tests/engine/cpu_faults_test.cc", *(f"cc/engine/cpu/{name}.cc" for name in engine)]
    flags = ["-O0", "-w", "-Wno-psabi", "-DTF_PLR_ELEMENT=float"]
    build_and_run(sources, tmp_path / "cpu_faults_test", *flags)
