# SPDX-License-Identifier: MIT
"""Sequence parallelism: replicas with a part of each sequence compute the same as one device.

Tests run on GPUs if there are enough, else on parts of one GPU; without a GPU, on logical CPUs.
"""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import run_program

import tf_plr
from tf_plr import distributed


@pytest.mark.parametrize("replicas", [2, 3, pytest.param(8, marks=pytest.mark.slow)])
def test_a_sequence_over_several_replicas(replicas):
    """Values and gradients are those of one device."""
    run_program(
        "op_on_replicas.py",
        replicas,
    )


def test_what_a_sequence_over_replicas_refuses():
    run_program(
        "refusals_of_op_on_replicas.py",
        2,
    )


@pytest.mark.parametrize("fused", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("replicas", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_layers_over_several_replicas(replicas, fused):
    """Outputs, states and gradients are those of one device."""
    run_program(
        "layers_on_replicas.py",
        replicas,
        TF_PLR_FUSED=str(int(fused)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("layer", ["GILR", "GILRLSTM", "SRU", "QRNN"])
def test_all_of_a_layer_over_several_replicas(layer, fused):
    run_program(
        "all_of_a_layer_on_replicas.py",
        2,
        layer,
        TF_PLR_FUSED=str(int(fused)),
    )


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("dtype", "forget_bias"),
    [("mixed_bfloat16", 8), pytest.param("mixed_float16", 9, marks=pytest.mark.slow)],
)
def test_long_memory_in_16_bits_over_several_replicas(dtype, forget_bias, fused):
    """The memory spans thousands of steps: in 16 bits, most decays would round to 1."""
    run_program(
        "long_memory_on_replicas.py",
        2,
        dtype,
        forget_bias,
        TF_PLR_FUSED=str(int(fused)),
    )


def test_fit_with_a_sequence_over_replicas(tmp_path):
    """Ten changed lines move training from one device to two, with the same weights at the end."""
    run_program(
        "fit_sequences_on_replicas.py",
        2,
        tmp_path / "model.keras",
    )


def test_targets_and_weights_of_steps_are_cut_as_sequences_are():
    x = np.arange(24.0).reshape(2, 4, 3)
    batch = {"x": x, "y": x[..., :1], "by step": x[..., 0], "by sequence": x[:, 0, 0]}
    for targets, weights, cut in (
        ("step", "by step", "x, y, by step"),
        ("step", "by sequence", "x, y"),
        ("sequence", "by sequence", "x"),
    ):
        names = ["x", "y", weights]
        batches = tf.data.Dataset.from_tensors(tuple(batch[name] for name in names))
        shards = next(iter(distributed.shard_sequences(batches, 2, targets=targets)))
        for name, actual in zip(names, shards, strict=True):
            whole = batch[name]
            halves = (whole[:, :2], whole[:, 2:]) if name in cut.split(", ") else (whole, whole)
            np.testing.assert_array_equal(actual, np.concatenate(halves))


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_keras_leaves_a_model_with_such_a_layer_uncompiled(sequence_parallel):
    """Keras warns and does not compile, because XLA refuses the exchange between replicas."""
    layers = [keras.Input((None, 3)), tf_plr.GILR(2, sequence_parallel=sequence_parallel)]
    model = keras.Sequential(layers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.compile("sgd", "mse", jit_compile=True)
    assert model.jit_compile is not sequence_parallel
    assert any("jit_compile" in str(w.message) for w in caught) is sequence_parallel


def test_what_sequence_parallel_layers_refuse():
    run_program(
        "refusals_of_layers_on_replicas.py",
        2,
    )
