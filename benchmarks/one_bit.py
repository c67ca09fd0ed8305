# SPDX-License-Identifier: MIT
"""One bit over T steps, and a trainer for any T.

The first element of a sequence is plus or minus the first of 128 unit vectors; every later element
is a random one of these vectors. The class is the sign of the first element, and the model predicts
it after the last step (problem 2b of Hochreiter and Schmidhuber, 1997, as in table 3 of Martin and
Cundy, ICLR 2018). A run has learned when five batches in a row are all correct. Data is made on the
device.
"""

import math
import sys
import time

import keras
import numpy as np
import tensorflow as tf

SYMBOLS = 128
CORRECT_IN_A_ROW = 5
SECONDS_BETWEEN_CHECKPOINTS = 30


def signs_of(seed, batch):
    return tf.random.stateless_uniform([batch, 1], seed, 0, 2, tf.int32)


def inputs_of(seed, chunk, batch, steps):
    """A chunk of the sequences that belong to a seed: [batch, steps, SYMBOLS]."""
    own = seed + tf.stack([1 + 2 * chunk, 0])
    symbols = tf.random.stateless_uniform([batch, steps], own, 0, SYMBOLS, tf.int32)
    first = tf.one_hot([0], SYMBOLS) * tf.cast(2 * signs_of(seed, batch) - 1, tf.float32)
    is_first = (tf.range(steps) == 0)[:, None] & (chunk == 0)
    return tf.where(is_first, first[:, None], tf.one_hot(symbols, SYMBOLS))


def build(layer, units):
    """A model (inputs, states) -> (logits, next states) of two layers made by layer(units)."""
    x = keras.Input((None, SYMBOLS))
    before = [keras.Input((units,)) for _ in range(4)]
    first = layer(units, return_sequences=True, return_state=True)
    second = layer(units, return_state=True)
    y, *after = first(x, initial_state=before[:2])
    y, *after_second = second(y, initial_state=before[2:])
    return keras.Model([x, before], [keras.layers.Dense(1)(y), [*after, *after_second]])


class Progress(keras.utils.Progbar):
    """A progress bar on a terminal; in a log, a line every half minute."""

    def __init__(self, target, **options):
        super().__init__(target, interval=0.05 if sys.stdout.isatty() else 30, **options)
        self._dynamic_display = sys.stdout.isatty()


class Trainer:
    """Trains with Adam; one trainer serves all runs of one shape.

    A sequence that does not fit into memory is split into chunks of steps. A forward pass over all
    chunks keeps only the states between them. Then each chunk, from the last to the first, runs
    again and passes the gradient of its initial states to the chunk before. The result is
    backpropagation through all steps.
    """

    def __init__(self, layer, units, steps, batch, rate, *, chunk=None, jit_compile=True):
        self.chunk = min(steps, chunk or steps)
        if steps % self.chunk != 0:
            raise ValueError(f"steps must be a multiple of chunk, but are {steps} and {chunk}")
        self.chunks, self.batch, self.units = steps // self.chunk, batch, units
        self.model = build(layer, units)
        self.optimizer = keras.optimizers.Adam(rate, global_clipnorm=1.0)
        self.optimizer.build(self.model.trainable_variables)
        compiled = tf.function(jit_compile=jit_compile)
        self._whole, self._forward = compiled(self._whole), compiled(self._forward)
        self._last, self._backward = compiled(self._last), compiled(self._backward)
        self._apply = compiled(self._apply)

    # ---- One step ----

    def step(self, seed):
        """(loss, whether the whole batch was right)."""
        if self.chunks == 1:
            return self._whole(seed)
        states = [self._zeros()]
        for chunk in range(self.chunks - 1):
            states.append(self._forward(seed, tf.constant(chunk), states[-1]))
        loss, correct, gradients, d_states = self._last(seed, states[-1])
        for chunk in reversed(range(self.chunks - 1)):
            gradients, d_states = self._backward(
                seed, tf.constant(chunk), states[chunk], d_states, gradients
            )
        self._apply(gradients)
        return loss, correct

    def _zeros(self):
        return [tf.zeros([self.batch, self.units]) for _ in range(4)]

    def _run(self, seed, chunk, states):
        x = inputs_of(seed, chunk, self.batch, self.chunk)
        return self.model([x, states], training=True)

    def _whole(self, seed):
        loss, correct, gradients, _ = self._last(seed, self._zeros())
        self._apply(gradients)
        return loss, correct

    def _forward(self, seed, chunk, states):
        return self._run(seed, chunk, states)[1]

    def _last(self, seed, states):
        signs, variables = signs_of(seed, self.batch), self.model.trainable_variables
        with tf.GradientTape() as tape:
            tape.watch(states)
            logits, _ = self._run(seed, tf.constant(self.chunks - 1), states)
            loss = tf.reduce_mean(keras.losses.binary_crossentropy(signs, logits, from_logits=True))
        gradients, d_states = tape.gradient(loss, [variables, states])
        return loss, tf.reduce_all((logits > 0) == (signs > 0)), gradients, d_states

    def _backward(self, seed, chunk, states, d_after, gradients):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            tape.watch(states)
            after = self._run(seed, chunk, states)[1]
        found, d_states = tape.gradient(after, [variables, states], output_gradients=d_after)
        # The Dense layer has no gradient here (None): only the last chunk reaches it.
        pairs = zip(gradients, found, strict=True)
        return [a if b is None else a + b for a, b in pairs], d_states

    def _apply(self, gradients):
        self.optimizer.apply(gradients, self.model.trainable_variables)

    # ---- Runs ----

    def compile(self):
        start = time.perf_counter()
        float(self.step(tf.constant([0, 0]))[0])
        return time.perf_counter() - start

    def run(self, layer, seed, iterations, seconds=math.inf, checkpoint=None):
        """Returns (iterations until learned, or None; seconds; losses).

        With a checkpoint, a path that ends in .npz, an interrupted run resumes from it.
        """
        keras.utils.set_random_seed(seed)
        self.model.set_weights(build(layer, self.units).get_weights())
        for variable in self.optimizer.variables:
            if "learning_rate" not in variable.path:
                variable.assign(tf.zeros_like(variable))
        losses, in_a_row, before = [], 0, 0.0
        if checkpoint is not None and checkpoint.exists():
            losses, in_a_row, before = self._restore(checkpoint)
        bar = Progress(iterations, stateful_metrics=["loss"])
        start = saved = time.perf_counter()
        # A step is read when the next is on its way, so that the device never waits for Python.
        coming = self._launch(seed, len(losses))
        while True:
            (loss, correct), coming = coming, self._launch(seed, len(losses) + 1)
            losses.append(float(loss))
            in_a_row = in_a_row + 1 if bool(correct) else 0
            now = time.perf_counter()
            elapsed = before + now - start
            bar.update(len(losses), [("loss", losses[-1])], finalize=False)
            if in_a_row >= CORRECT_IN_A_ROW:
                return len(losses), elapsed, losses
            if len(losses) == iterations or not np.isfinite(losses[-1]) or elapsed > seconds:
                return None, elapsed, losses
            if checkpoint is not None and now - saved > SECONDS_BETWEEN_CHECKPOINTS:
                # The variables already include the step in flight, so save its loss, too.
                loss, correct = coming
                in_a_row_then = in_a_row + 1 if bool(correct) else 0
                if in_a_row_then < CORRECT_IN_A_ROW:  # Else the run ends now.
                    self._save(checkpoint, [*losses, float(loss)], in_a_row_then, elapsed)
                saved = now

    def _launch(self, seed, iteration):
        return self.step(tf.constant([seed, 2 * iteration]))

    def _variables(self):
        return [*self.model.trainable_variables, *self.optimizer.variables]

    def _save(self, path, losses, in_a_row, seconds):
        values = {str(i): variable.numpy() for i, variable in enumerate(self._variables())}
        new = path.with_suffix(".new.npz")
        np.savez(new, losses=losses, in_a_row=in_a_row, seconds=seconds, **values)
        new.replace(path)

    def _restore(self, path):
        with np.load(path) as saved:
            for i, variable in enumerate(self._variables()):
                variable.assign(saved[str(i)])
            return list(saved["losses"]), int(saved["in_a_row"]), float(saved["seconds"])
