# SPDX-License-Identifier: MIT
"""Load, and what goes wrong around a training: threads, forks, interrupts, kills, no memory."""

import subprocess
import sys
import threading

import keras
import numpy as np
from conftest import ROOT, build_and_run, needs_headers, run_python

import tf_plr

SMALL = """
import os, signal, sys, threading, time
import keras, numpy as np, tensorflow as tf, tf_plr
keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(16, 300, 3)).astype("float32")
model = keras.Sequential([keras.Input((None, 3)), tf_plr.GILRLSTM(8), keras.layers.Dense(1)])
model.compile("adam", "mse")
def fit(epochs, *callbacks):
    return model.fit(x, x[:, 0, :1], epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
"""


def test_calls_from_many_threads():
    command = [sys.executable, ROOT / "tests" / "load.py", "--calls", "2000", "--threads", "8"]
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
    run_python(
        SMALL
        + """
signal.signal(signal.SIGINT, signal.default_int_handler)  # A background job ignores it.
fit(1)
threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    fit(100_000)
except KeyboardInterrupt:
    pass
else:
    raise AssertionError("was not interrupted")
before = model.get_weights()
loss = fit(3).history["loss"][-1]
assert np.isfinite(loss)
assert all(np.any(a != b) for a, b in zip(model.get_weights(), before))
"""
    )


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    program = (
        SMALL
        + """
tf.config.experimental.enable_op_determinism()  # On GPUs, XLA tries products in each process.
folder, kill, result = sys.argv[1:]
epochs = []
class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        epochs.append(epoch)
        if kill == "kill" and epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)
fit(6, keras.callbacks.BackupAndRestore(folder), Kill())
np.savez(result, np.array(epochs), *model.get_weights())
"""
    )
    whole, resumed = tmp_path / "whole.npz", tmp_path / "resumed.npz"
    run_python(program, tmp_path / "a", "", whole)
    killed = subprocess.run([sys.executable, "-c", program, tmp_path / "b", "kill", resumed])
    assert killed.returncode == -9 and not resumed.exists()
    run_python(program, tmp_path / "b", "", resumed)
    with np.load(whole) as expected, np.load(resumed) as actual:
        first, *weights = expected.files
        assert list(expected[first]) == [0, 1, 2, 3, 4, 5]
        assert list(actual[first]) == [3, 4, 5]
        for name in weights:
            np.testing.assert_array_equal(actual[name], expected[name])


def test_a_fork_can_use_the_op():
    """On the thread that is left there; TensorFlow promises no more for its own, CUDA nothing."""
    run_python(
        SMALL
        + """
a = tf.fill([4, 30_000, 20], 0.5)
expected = tf_plr.linear_recurrence(a, a, axis=1).numpy()
child = os.fork()
if child == 0:
    signal.alarm(60)
    equal = np.array_equal(tf_plr.linear_recurrence(a, a, axis=1), expected)
    os._exit(0 if equal else 1)
assert os.waitpid(child, 0)[1] == 0
np.testing.assert_array_equal(tf_plr.linear_recurrence(a, a, axis=1), expected)
""",
        CUDA_VISIBLE_DEVICES="-1",
    )


def test_no_memory_in_an_op():
    """Is said as such; the process goes on."""
    run_python(
        """
import resource
from pathlib import Path
import tensorflow as tf, tf_plr

def run(steps):
    return tf_plr.linear_recurrence(steps, steps, algorithm="parallel")

steps = tf.ones([2, 1 << 24], tf.float16)  # 64 MiB; so are the states, and then carries in float32.
for call in (run, tf.function(run, jit_compile=True)):
    call(steps)  # All threads are there now.
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    errors = []
    for more in range(8):
        resource.setrlimit(resource.RLIMIT_AS, (taken + (more << 25), -1))
        try:
            call(steps)
            break
        except tf.errors.ResourceExhaustedError as error:
            errors.append(str(error))
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    assert any("could not allocate its carries" in error for error in errors), errors
    assert tf.reduce_all(call(steps)[1] == 2)
""",
        CUDA_VISIBLE_DEVICES="-1",
    )


@needs_headers
def test_no_memory_in_the_cpu_engine(tmp_path):
    engine = ("causal_windows", "column_sums", "held_rows", "run_real")
    sources = ["tests/cpu_faults_test.cc", *(f"cc/engine/cpu/{name}.cc" for name in engine)]
    build_and_run(sources, tmp_path / "cpu_faults_test", "-O0", "-w", "-Wno-psabi")
