# SPDX-License-Identifier: MIT
"""Data parallelism: replicas and workers with a batch each compute the same as one device."""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from support import PROGRAMS, run_program

GPUS = tf.config.list_physical_devices("GPU")


def test_fit_with_two_replicas(tmp_path):
    run_program("fit_on_two_replicas.py", tmp_path / "model.keras")


def start_worker(program, path, gpu=0, **environment):
    if GPUS:  # Each worker sees one GPU and so has one replica.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(len(GPUS))))
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu % len(GPUS)]
    command = [sys.executable, PROGRAMS / program, path]
    return subprocess.Popen(command, env={**os.environ, **environment})


def two_workers(program, folder):
    """Processes of a cluster, which write to 0.npz and 1.npz."""
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("localhost", 0))
    workers = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    configs = [json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks]
    return [
        start_worker(program, folder / f"{i}.npz", gpu=i, TF_CONFIG=config)
        for i, config in enumerate(configs)
    ]


def test_two_workers_learn_as_one(tmp_path):
    """Two processes under MultiWorkerMirroredStrategy, which Keras' own fit does not support.

    First each worker has its own sequences, then each has a part of every sequence.
    """
    program = "learn_on_workers.py"
    alone, *workers = [
        start_worker(program, tmp_path / "alone.npz"),
        *two_workers(program, tmp_path),
    ]
    try:
        assert [process.wait(timeout=300) for process in (alone, *workers)] == [0, 0, 0]
    finally:
        for process in (alone, *workers):
            process.kill()
    names = ["alone.npz", "0.npz", "1.npz"]
    alone, *others = (np.load(tmp_path / name) for name in names)
    for other in others:
        for name in alone.files:
            np.testing.assert_allclose(other[name], alone[name], atol=1e-5)


@pytest.mark.slow
def test_a_lost_worker_is_an_error(tmp_path):
    program = "recur_on_workers.py"
    first, second = two_workers(program, tmp_path)
    try:
        for _ in range(300):
            if (tmp_path / "1.npz").exists():
                break
            time.sleep(1)
        second.kill()
        assert first.wait(timeout=300) == 7
    finally:
        first.kill()
