# SPDX-License-Identifier: MIT
"""Saves models of this version, which later versions must load: `python tools/save_artifacts.py`.

For each layer it writes a .keras file, weights and a SavedModel to tests/artifacts/VERSION/, and
beside them the inputs and the models' outputs. It never overwrites artifacts.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import tf_plr

ARTIFACTS = Path(__file__).resolve().parents[1] / "tests" / "artifacts"
FEATURES = 3
MODELS = {
    "gilr": lambda: tf_plr.GILR(4, return_sequences=True),
    "ls_lstm": lambda: tf_plr.LinearSurrogateLSTM(
        4, forget_bias=tf_plr.initializers.Chrono(20), input_bias="normalized",
        layer_normalization=True,
    ),
    "sru": lambda: tf_plr.SRU(4, return_sequences=True, go_backwards=True),
    "qrnn": lambda: tf_plr.QRNN(4, kernel_size=3, pooling="ifo"),
    "bidirectional": lambda: keras.layers.Bidirectional(tf_plr.GILRLSTM(4)),
}  # fmt: skip


def build(name):
    inputs = keras.Input((None, FEATURES))
    masked = keras.layers.Masking()(inputs)
    return keras.Model(inputs, keras.layers.Dense(2)(MODELS[name]()(masked)))


def inputs():
    x = np.random.default_rng(0).normal(size=(2, 7, FEATURES)).astype("float32")
    x[1, 5:] = 0  # Masked.
    return x


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    folder = ARTIFACTS / tf_plr.__version__
    folder.mkdir(parents=True)
    keras.utils.set_random_seed(0)
    outputs = {}
    for name in MODELS:
        model = build(name)
        outputs[name] = model(inputs()).numpy()
        model.save(folder / f"{name}.keras")
        model.save_weights(folder / f"{name}.weights.h5")
        model.export(folder / name, verbose=False)
    np.savez_compressed(folder / "answers.npz", inputs=inputs(), **outputs)


if __name__ == "__main__":
    main()
