# SPDX-License-Identifier: MIT
"""Every argument of every constructor: it has an effect, is kept, documented, and seen by tools."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from support import LAYERS

import tf_plr
from tf_plr.layers.base.arguments import CellArguments, KerasOptions, LayerOptions

CELLS = [layer.cell_class for layer in LAYERS]
UNITS, FEATURES = 6, 4

# A non-default value must change its effect in ARGUMENTS, and no effect earlier in this order.
EFFECTS = ("shapes", "weights", "losses", "constraints", "outputs", "training")
ARGUMENTS = {
    "units": (UNITS + 1, "shapes"),
    "activation": ("softsign", "outputs"),
    "recurrent_activation": ("hard_sigmoid", "outputs"),
    "use_bias": (False, "shapes"),
    "kernel_initializer": ("he_normal", "weights"),
    "recurrent_initializer": ("he_normal", "weights"),
    "bias_initializer": ("ones", "weights"),
    "forget_bias": (1.5, "weights"),
    "input_bias": (-2.5, "weights"),
    "kernel_regularizer": ("l2", "losses"),
    "recurrent_regularizer": ("l2", "losses"),
    "bias_regularizer": ("l2", "losses"),
    "activity_regularizer": ("l2", "losses"),
    "kernel_constraint": ("non_neg", "constraints"),
    "recurrent_constraint": ("non_neg", "constraints"),
    "bias_constraint": ("non_neg", "constraints"),
    "dropout": (0.5, "training"),
    "recurrent_dropout": (0.5, "training"),
    "layer_normalization": (True, "shapes"),
    "shift_surrogate": (False, "outputs"),
    "kernel_size": (3, "shapes"),
    "pooling": ("f", "shapes"),
    "return_sequences": (True, "shapes"),
    "return_state": (True, "shapes"),
    "go_backwards": (True, "outputs"),
    "zero_output_for_mask": (True, "outputs"),
}
# Tested on their own, below or elsewhere.
OTHERS = {"seed", "input_dim", "algorithm", "stateful", "sequence_parallel"}


SHARED = [n for n in CellArguments.__annotations__ if n not in KerasOptions.__annotations__]


def parameters_of(cls):
    parameters = [*inspect.signature(cls.__init__).parameters.values()][1:]
    shared = SHARED if any(get_args(p.annotation) == (CellArguments,) for p in parameters) else []
    return [*(p.name for p in parameters if p.kind is not p.VAR_KEYWORD), *shared]


def defaults_of(cls):
    signature = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p.default for p in signature if p.default is not p.empty}


def effects(cls, **arguments):
    """{effect: its values} of a layer, or of a cell in keras.layers.RNN, with seeded weights."""
    keras.utils.set_random_seed(1)
    made = cls(**arguments)
    random = np.random.default_rng(1)
    x = random.normal(size=(2, 7, FEATURES)).astype("float32")
    mask = tf.constant([[True] * 7, [True] * 5 + [False] * 2])
    layer = made if cls in LAYERS else keras.layers.RNN(made)
    layer.build(x.shape)
    initial = layer.get_weights()
    outputs = tf.nest.flatten(layer(x, mask=mask))
    losses = [float(loss) for loss in layer.losses]
    layer.set_weights([w + 0.3 * random.normal(size=w.shape) for w in initial])
    outputs = [o.numpy() for o in tf.nest.flatten(layer(x, mask=mask))]
    training = [o.numpy() for o in tf.nest.flatten(layer(x, mask=mask, training=True))]
    return {
        "shapes": [a.shape for a in (*initial, *outputs)],
        "weights": initial,
        "losses": losses,
        "constraints": [w.constraint is not None for w in layer.trainable_weights],
        "outputs": outputs,
        "training": training,
    }


def equal(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


CASES = [
    pytest.param(cls, name, id=f"{cls.__name__}-{name}")
    for cls in (*LAYERS, *CELLS)
    for name in [*parameters_of(cls), *(["activity_regularizer"] if cls in LAYERS else [])]
    if name not in OTHERS
]


@pytest.mark.parametrize(("cls", "name"), CASES)
def test_every_argument_has_its_effect_and_no_other(cls, name):
    value, expected = ARGUMENTS[name]
    base = {"units": UNITS, "forget_bias": 0.7, "bias_initializer": "zeros"}
    if cls.__name__.startswith("QRNN"):
        base |= {"pooling": "ifo"}
    if cls is tf_plr.QRNNCell:
        base |= {"input_dim": FEATURES}
    if cls in LAYERS:
        base |= {"return_sequences": name not in ("return_sequences", "activity_regularizer")}
        if name == "return_state":
            base |= {"return_sequences": False}
    before, after = effects(cls, **base), effects(cls, **{**base, name: value})
    first = next(effect for effect in EFFECTS if not equal(before[effect], after[effect]))
    assert first == expected


@pytest.mark.parametrize("cls", [*LAYERS, *CELLS])
def test_regularizers_and_constraints_reach_their_own_weight(cls):
    options = {"input_dim": FEATURES} if cls is tf_plr.QRNNCell else {}
    for kind in ("kernel", "recurrent", "bias"):
        if f"{kind}_regularizer" not in parameters_of(cls):
            continue
        made = cls(3, **{f"{kind}_regularizer": "l1", f"{kind}_constraint": "max_norm"}, **options)
        made.build((None, None, FEATURES) if cls in LAYERS else (None, FEATURES))
        name = "recurrent_kernel" if kind == "recurrent" else kind
        for weight in made.trainable_weights:
            assert (weight.regularizer is not None) == (weight.name == name)
            assert (weight.constraint is not None) == (weight.name == name)


# The index of the bias block that forget_bias and input_bias set, not taken from the layers.
FORGET_BLOCK = {tf_plr.GILR: 0, tf_plr.GILRLSTM: 2, tf_plr.SRU: 1, tf_plr.QRNN: 1}
INPUT_BLOCK = {tf_plr.GILRLSTM: 3, tf_plr.QRNN: 3}


def logit(x):
    return np.log(x / (1 - x))


def initial_biases(layer, **options):
    made = layer(3, **options)
    made.build((None, None, FEATURES))
    return made.cell.bias.numpy().reshape(-1, 3)


def test_forget_bias(layer):
    block = FORGET_BLOCK[layer]
    others = {"input_bias": None} if layer is tf_plr.GILRLSTM else {}
    for value in (2.5, -1, np.float32(0.5)):
        biases = initial_biases(layer, forget_bias=value, **others)
        np.testing.assert_array_equal(biases[block], value)
        np.testing.assert_array_equal(np.delete(biases, block, 0), 0)
    biases = initial_biases(layer, forget_bias="ones", bias_initializer="random_normal", **others)
    np.testing.assert_array_equal(biases[block], 1)
    others = np.delete(biases, block, 0)
    assert len(np.unique(others)) == others.size  # Not one draw for all blocks.


@pytest.mark.parametrize("layer", INPUT_BLOCK)
def test_input_bias(layer):
    options = {"pooling": "ifo"} if layer is tf_plr.QRNN else {}
    chrono = tf_plr.initializers.Chrono(1000)
    for value, expected in [
        (None, lambda forget: 0 * forget),
        (-3, lambda forget: 0 * forget - 3),
        ("ones", lambda forget: 0 * forget + 1),
        ("coupled", lambda forget: -forget),
        ("normalized", lambda forget: logit(np.sqrt(1 - reference.sigmoid(forget) ** 2))),
    ]:
        biases = initial_biases(layer, forget_bias=chrono, input_bias=value, **options)
        forget = biases[FORGET_BLOCK[layer]].astype(float)
        assert len(np.unique(forget)) == 3
        np.testing.assert_allclose(biases[INPUT_BLOCK[layer]], expected(forget), rtol=1e-5)
        rest = np.delete(biases, [FORGET_BLOCK[layer], INPUT_BLOCK[layer]], 0)
        np.testing.assert_array_equal(rest, 0)


@pytest.mark.parametrize("forget_bias", [-60, -9, 0, 1, 16.6, 80, 110])
def test_normalized_input_gates_of_any_memory(forget_bias):
    biases = initial_biases(tf_plr.GILRLSTM, forget_bias=forget_bias, input_bias="normalized")
    forget = reference.sigmoid(float(forget_bias))
    remaining = reference.sigmoid(-float(forget_bias))
    gate = np.sqrt(remaining * (1 + forget))
    expected = np.log(gate) - np.log(forget**2 / (1 + gate))
    np.testing.assert_allclose(biases[INPUT_BLOCK[tf_plr.GILRLSTM]], expected, rtol=1e-5)


def test_default_biases(layer):
    """Forget gates start with memories of 1 to 1,000 steps; input gates keep the size of c."""
    options = {"pooling": "ifo"} if layer is tf_plr.QRNN else {}
    if layer is tf_plr.GILRLSTM:
        options = {"recurrent_initializer": "zeros"}
    made = layer(2000, **options)
    made.build((None, None, 1))
    blocks = made.cell.bias.numpy().reshape(-1, 2000).astype(float)
    forget = blocks[FORGET_BLOCK[layer]]
    log_tau = np.log(-1 / np.log(reference.sigmoid(forget)))
    # The quartiles of 2,000 draws have a standard error of 0.01; allow four times that.
    found = np.quantile(log_tau, [0, 0.25, 0.5, 0.75, 1]) / np.log(1000)
    np.testing.assert_allclose(found, [0, 0.25, 0.5, 0.75, 1], atol=0.04)
    rest = [FORGET_BLOCK[layer]]
    if layer in INPUT_BLOCK:
        rest.append(INPUT_BLOCK[layer])
        gates = reference.sigmoid(blocks[[FORGET_BLOCK[layer], INPUT_BLOCK[layer]]])
        np.testing.assert_allclose((gates**2).sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(np.delete(blocks, rest, 0), 0)
    assert made.forget_bias is not layer(3).forget_bias
    assert layer(3, forget_bias="time_scales").get_config() | {"name": 0} == (
        layer(3).get_config() | {"name": 0}
    )


def test_time_scales():
    scales = tf_plr.initializers.TimeScales(50, seed=3)
    biases = scales((10_000,)).numpy().astype(float)
    steps = -1 / np.log(reference.sigmoid(biases))
    assert 1 <= steps.min() < 1.01
    assert 49.5 < steps.max() <= 50.01
    twin = keras.initializers.deserialize(keras.initializers.serialize(scales))
    np.testing.assert_array_equal(twin((10_000,)), scales((10_000,)))
    assert not np.array_equal(*(tf_plr.initializers.TimeScales()((9,)) for _ in range(2)))
    np.testing.assert_allclose(tf_plr.initializers.TimeScales(1)((2,)), -np.log(np.e - 1), 1e-6)


def test_chrono():
    chrono = tf_plr.initializers.Chrono(500, seed=3)
    steps = np.exp(chrono((10_000,)).numpy())
    assert 1 <= steps.min() < 2
    assert 495 < steps.max() <= 499
    np.testing.assert_allclose(steps.mean(), 250, rtol=0.03)
    twin = keras.initializers.deserialize(keras.initializers.serialize(chrono))
    np.testing.assert_array_equal(twin((10_000,)), chrono((10_000,)))
    assert not np.array_equal(*(tf_plr.initializers.Chrono(500)((9,)) for _ in range(2)))


def test_seed(layer):
    x = np.ones((4, 6, FEATURES), "float32")
    names = [n for n in ("dropout", "recurrent_dropout") if n in parameters_of(layer)]

    def train(name, seed, of_all):
        keras.utils.set_random_seed(1)
        made = layer(32, **{name: 0.5}, seed=seed)
        made.build(x.shape)
        keras.utils.set_random_seed(of_all)
        return made(x, training=True).numpy()

    for name in names:
        first = train(name, 1, of_all=1)
        np.testing.assert_array_equal(first, train(name, 1, of_all=2))
        assert not np.array_equal(first, train(name, 2, of_all=1))


@pytest.mark.parametrize("algorithm", ["auto", "parallel", "serial", "composed"])
@pytest.mark.parametrize("masked", [False, True])
def test_algorithm(layer, algorithm, masked):
    made = layer(3, algorithm=algorithm, return_sequences=True)
    x = tf.ones([2, 5, FEATURES])
    mask = tf.ones([2, 5], tf.bool) if masked else None
    graph = tf.function(lambda x: made(x, mask=mask)).get_concrete_function(x).graph
    native = [op for op in graph.get_operations() if op.type.startswith("TfPlr>")]
    assert bool(native) == (algorithm != "composed")
    recurrences = [op for op in native if "Recurrence" in op.type]
    assert {op.get_attr("algorithm").decode() for op in recurrences} == {algorithm} - {"composed"}


def test_config_keeps_what_was_given(layer):
    given = {name: value for name, (value, _) in ARGUMENTS.items() if name in parameters_of(layer)}
    given |= {"seed": 3, "stateful": True, "algorithm": "serial", "trainable": False, "name": "x"}
    if layer is tf_plr.QRNN:
        given |= {"pooling": "ifo"}
    for dtype in ("float32", "mixed_bfloat16"):
        made = layer(**given, activity_regularizer="l2", dtype=dtype)
        made.build((2, None, FEATURES))
        config = json.loads(json.dumps(made.get_config()))
        for name, value in given.items():
            kept = config[name]
            if isinstance(value, str) and isinstance(kept, dict):  # A serialised initializer, ...
                assert kept["class_name"] == type(getattr(made, name)).__name__
            else:
                assert kept == value
        assert "activity_regularizer" in config
        for twin in (
            layer.from_config(config),
            keras.layers.deserialize(keras.layers.serialize(made)),
        ):
            assert twin.get_config() == made.get_config()
            assert twin.dtype_policy == made.dtype_policy
        cell = made.cell
        assert type(cell).from_config(cell.get_config()).get_config() == cell.get_config()


def test_initial_biases_survive_a_config(layer):
    given = {"forget_bias": tf_plr.initializers.Chrono(100, seed=1)}
    if layer in INPUT_BLOCK:
        given["input_bias"] = "coupled"
    if layer is tf_plr.QRNN:
        given["pooling"] = "ifo"
    twin = layer.from_config(layer(3, **given).get_config())
    twin.build((None, None, FEATURES))
    np.testing.assert_array_equal(
        twin.cell.bias.numpy().reshape(-1, 3), initial_biases(layer, **given)
    )


def test_layers_and_cells_have_the_same_arguments_and_defaults(layer):
    cell = layer.cell_class
    of_layer = ["return_sequences", "return_state", "go_backwards", "stateful"]
    of_layer += ["zero_output_for_mask", "algorithm", "sequence_parallel"]
    of_cell = [name for name in parameters_of(cell) if name != "input_dim"]
    assert sorted(parameters_of(layer)) == sorted([*of_cell, *of_layer])
    assert parameters_of(layer)[-len(of_layer) :] == of_layer
    base = defaults_of(tf_plr.layers.LinearRecurrentCell)
    for name, default in {**base, **defaults_of(cell)}.items():
        assert name == "input_dim" or defaults_of(layer)[name] == default
    for cls in (layer, cell):
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            positional = name in ("self", "units", "activation", "kwargs")
            assert positional or parameter.kind is parameter.KEYWORD_ONLY


def test_shared_arguments_are_those_of_the_base():
    base = inspect.signature(tf_plr.layers.LinearRecurrentCell.__init__).parameters
    assert {name: base[name].annotation for name in SHARED} == {
        name: CellArguments.__annotations__[name] for name in SHARED
    }
    assert set(base) - set(SHARED) == {"self", "units", "activation", "forget_bias", "kwargs"}
    assert set(KerasOptions.__annotations__) < set(LayerOptions.__annotations__)


@pytest.mark.parametrize("cls", [*LAYERS, tf_plr.layers.LinearRecurrentCell])
def test_documentation_lists_the_arguments_in_order(cls):
    section = inspect.getdoc(cls).split("\nArgs:\n")[1].split("\n\n")[0]
    documented = re.findall(r"^    (\w+):", section, re.MULTILINE)
    assert documented == parameters_of(cls)
    for title in ("Call arguments:", "Raises:"):
        assert f"\n{title}\n" in inspect.getdoc(cls)


def test_arguments_of_the_cell_are_read_only_attributes_of_the_layer(layer):
    made = layer(3, dropout=0.25)
    for name in set(parameters_of(layer.cell_class)) - {"input_dim"}:
        assert getattr(made, name) is getattr(made.cell, name)
        assert name in dir(made)
        assert hasattr(layer, name)
        with pytest.raises(AttributeError, match=f"{name} of {layer.__name__} is read-only"):
            setattr(made, name, 1)
    with pytest.raises(AttributeError, match="no attribute 'unit'"):
        _ = made.unit


def test_errors_inside_properties_are_not_hidden():
    class Mine(tf_plr.GILR):
        @property
        def alpha(self):
            return self.cell.nonexistent

    with pytest.raises(AttributeError, match="'GILRCell' object has no attribute 'nonexistent'"):
        _ = Mine(4).alpha


USES = """
from tf_plr import GILRLSTM, GILRLSTMCell, initializers, linear_recurrence
from tf_plr.layers import LinearRecurrentCell, LinearRecurrentLayer

layer = GILRLSTM(4, "tanh", dropout=0.1, forget_bias=initializers.Chrono(9), name="x")
units: int = layer.units
dropout: float = layer.dropout
GILRLSTM(4, kernal_initializer="ones")  # Misspelt.
GILRLSTMCell(4, dropout=0.1, shift_surrogate=False)
GILRLSTMCell(4, kernal_initializer="ones")  # Misspelt.
GILRLSTMCell(4, dropout="much")  # Of another type.
GILRLSTM(4, dropout="much")  # Of another type.
name: str = layer.units  # Of another type.
linear_recurrence([1.0], [1.0], axes=0)  # Misspelt.
"""


def test_type_checkers_see_the_installed_package(tmp_path):
    if shutil.which("pyright", path=Path(sys.executable).parent) is None:
        pytest.skip("needs pyright")
    (tmp_path / "uses.py").write_text(USES)
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, "uses.py"], cwd=tmp_path, capture_output=True, text=True)
    found = [d for d in json.loads(done.stdout)["generalDiagnostics"] if d["severity"] == "error"]
    lines = USES.splitlines()
    wrong = [i for i, line in enumerate(lines) if "  # " in line]
    assert sorted({d["range"]["start"]["line"] for d in found}) == wrong
    assert "kernal_initializer" in found[0]["message"]
