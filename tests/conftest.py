# SPDX-License-Identifier: MIT
import inspect

import keras
import numpy as np
import pytest
from support import LAYERS, MODES, XLA


def pytest_collection_modifyitems(items):
    for item in items if not XLA else []:
        if "xla" in item.nodeid.lower() or "jit_compile" in inspect.getsource(item.function):
            item.add_marker(pytest.mark.skip(reason="this TensorFlow has no XLA for other ops"))


@pytest.fixture(params=LAYERS)
def layer(request):
    return request.param


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)
