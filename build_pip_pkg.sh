#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes a wheel in dist/, installs it into a fresh environment, and tries it outside the source tree.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rm -rf dist
"$python" -m venv "$work/build"
"$work/build/bin/pip" install -q --upgrade pip
"$work/build/bin/pip" wheel --no-deps --wheel-dir dist .
wheel=$(echo dist/*.whl)
wheel=$(realpath "$wheel")

"$python" -m venv "$work/fresh"
"$work/fresh/bin/pip" install -q --upgrade pip
"$work/fresh/bin/pip" install -q "$wheel"
cd "$work"
"$work/fresh/bin/python" - <<'PYTHON'
import numpy as np
import tensorflow as tf

import tf_plr

states = tf_plr.linear_recurrence([0.5, 0.5, 0.5], [1.0, 1.0, 1.0])
np.testing.assert_array_equal(states, [1, 1.5, 1.75])
for layer in (tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN):
    model = tf.keras.Sequential([layer(8), tf.keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 10, 3)), np.ones((4, 1)), verbose=0)
print(f"smoke test passed: tf_plr {tf_plr.__version__} from {tf_plr.__file__}")
PYTHON
echo "wheel: $wheel"
