# SPDX-License-Identifier: MIT
"""Models saved by earlier versions load and give the same outputs; see tools/save_artifacts.py.

Until the first release, the artifacts of 0.1.0 come from a development version of 0.1.0.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from save_artifacts import ARTIFACTS, MODELS, build

VERSIONS = sorted(folder.name for folder in ARTIFACTS.iterdir())


def test_there_are_some():
    assert "0.1.0" in VERSIONS


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("version", VERSIONS)
def test_artifacts(version, name):
    folder = ARTIFACTS / version
    with np.load(folder / "answers.npz") as file:
        inputs, expected = file["inputs"], file[name]
    weights = build(name)
    weights.load_weights(folder / f"{name}.weights.h5")
    exported = tf.saved_model.load(folder / name)
    for answer in (keras.saving.load_model(folder / f"{name}.keras"), weights, exported.serve):
        np.testing.assert_allclose(answer(inputs), expected, rtol=1e-5, atol=1e-6)
