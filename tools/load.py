# SPDX-License-Identifier: MIT
"""Calls the ops from many threads: results must not change, and memory must not grow.

    python tools/load.py --calls 100000 --threads 8

Each call computes one of several problems and its gradients, eagerly or in a tf.function without
known shapes; together the problems use all native ops. A result must equal, bit for bit, that of
the same call before the threads started. Prints the process's memory as it goes; the exit code is 1
if a result differs, a call fails or memory grows. Only memory in use counts: allocators are told to
return the rest. Growth is measured from a tenth of the calls on, and from call 300 at the earliest,
when every thread has allocated its share.
"""

import argparse
import ctypes
import os
import queue
import random
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import tf_plr

SHAPES = ((1, 1, 1), (3, 50, 7), (2, 1, 300), (1, 3000, 4), (4, 400, 33), (2, 700, 128))
WARM, FLAT = 300, 32.0  # Calls to warm up; MiB by which memory may grow afterwards.
give_back = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)  # glibc's.


def mebibytes():
    """The resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def with_gradients(function):
    def run(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            results = function(*tensors)
        return [results, *tape.gradient(results, tensors)]

    return run


def problems():
    """Functions without arguments, each of which computes one problem."""
    rng = np.random.default_rng(0)

    def scan(decays, impulses):
        return tf_plr.linear_recurrence(tf.sigmoid(decays), impulses, axis=1)

    layers = [layer(32, return_sequences=True) for layer in (tf_plr.GILRLSTM, tf_plr.QRNN)]
    functions = [(scan, SHAPES, 2)] + [(layer, [(2, 200, 8), (3, 17, 8)], 1) for layer in layers]
    found = []
    for function, shapes, count in functions:
        for dtype in ("float32", "bfloat16") if function is scan else ("float32",):
            unknown = tf.TensorSpec([None, None, shapes[0][2] if count == 1 else None], dtype)
            eager = with_gradients(function)
            graph = tf.function(eager, input_signature=[unknown] * count)
            for shape in shapes:
                tensors = [tf.constant(rng.normal(size=shape), dtype) for _ in range(count)]
                found += [lambda run=run, on=tensors: run(*on) for run in (eager, graph)]
    return found


def bits(results):
    return [np.asarray(result).tobytes() for result in results]


def run(calls, threads, say=lambda *_: None):
    """(MiB early, MiB at the end, what was wrong)."""
    todo, wrong = queue.SimpleQueue(), []
    these = problems()
    expected = [bits(problem()) for problem in these]
    order = random.Random(0).choices(range(len(these)), k=calls)
    for i in order:
        todo.put(i)

    def work():
        while not wrong:
            try:
                i = todo.get_nowait()
            except queue.Empty:
                return
            try:
                if bits(these[i]()) != expected[i]:
                    wrong.append(f"problem {i} differs from what it was alone")
            except Exception as error:
                wrong.append(f"problem {i}: {error}")

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    early = None
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.05)
        done = calls - todo.qsize()
        if early is None and done >= max(WARM, calls // 10):
            give_back(0)
            early = mebibytes()
        say(done, mebibytes())
    give_back(0)
    late = mebibytes()
    return early or late, late, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=8)
    arguments = parser.parse_args()
    start = time.perf_counter()

    def say(done, memory):
        left = (time.perf_counter() - start) / max(1, done) * (arguments.calls - done)
        print(f"\r{done:,} calls, {memory:.0f} MiB, {left:.0f} s left ", end="", flush=True)

    early, late, wrong = run(arguments.calls, arguments.threads, say)
    print(
        f"\n{arguments.calls:,} calls from {arguments.threads} threads in "
        f"{time.perf_counter() - start:.0f} s; {early:.0f} MiB early, {late:.0f} at the end"
    )
    print("\n".join(wrong))
    if grew := late > early + FLAT:
        print(f"more than {FLAT:.0f} MiB were added")
    return 1 if wrong or grew else 0


if __name__ == "__main__":
    sys.exit(main())
