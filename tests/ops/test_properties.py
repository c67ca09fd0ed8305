# SPDX-License-Identifier: MIT
"""Properties of every recurrence; hypothesis searches for a counterexample.

The op computes both sides, in float64 except in the last test: tolerances allow for different
rounding only.
"""

import numpy as np
import pytest
import tensorflow as tf
import test_gated_recurrence
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import UNIT_ROUNDOFF, error_bound

from tf_plr import linear_recurrence
from tf_plr._ops.gated_recurrence import gated_recurrence, unfused_gated_recurrence

NATIVE = ("auto", "parallel", "serial")
repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=40)


@st.composite
def problems(draw, most_steps=600):
    """(decays, impulses, initial state, keyword arguments); arrays are [steps, columns]."""
    steps, columns = draw(st.integers(1, most_steps)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    largest = draw(st.sampled_from([0.0, 0.5, 1.0, 1.01]))
    decays = rng.uniform(-largest, largest, (steps, columns))
    decays[rng.random(decays.shape) < draw(st.sampled_from([0.0, 0.1]))] = 0.0
    how = {"algorithm": draw(st.sampled_from(NATIVE)), "reverse": draw(st.booleans())}
    return decays, rng.normal(size=decays.shape), rng.normal(size=columns), how


def bound_of(decays, impulses, state, how):
    return 2 * error_bound(
        decays, impulses, state, UNIT_ROUNDOFF["float64"], reverse=how["reverse"]
    )  # fmt: skip


def assert_near(actual, expected, bound):
    assert np.all(np.abs(actual - expected) <= bound)


@repeatable
@given(problems(), st.data())
def test_split_anywhere_and_chained_by_the_state(problem, data):
    decays, impulses, state, how = problem
    whole = linear_recurrence(decays, impulses, state, **how)
    at = data.draw(st.integers(0, len(decays)))
    parts = [slice(None, at), slice(at, None)]
    found = {}
    for i in (1, 0) if how["reverse"] else (0, 1):
        part = linear_recurrence(decays[parts[i]], impulses[parts[i]], state, **how)
        found[i] = part.numpy()
        if len(part):
            state = part[0 if how["reverse"] else -1]
    bound = bound_of(decays, impulses, problem[2], how)
    assert_near(np.concatenate([found[0], found[1]]), whole, bound)


@repeatable
@given(problems())
def test_backwards_is_forwards_of_what_is_turned_around(problem):
    decays, impulses, state, how = problem
    turned = {**how, "reverse": not how["reverse"]}
    expected = linear_recurrence(decays, impulses, state, **how)
    actual = linear_recurrence(decays[::-1], impulses[::-1], state, **turned)[::-1]
    np.testing.assert_array_equal(actual, expected)


@repeatable
@given(problems(), st.floats(-4, 4), st.integers(0, 2**32 - 1))
def test_linear_in_impulses_and_initial_state(problem, factor, seed):
    decays, impulses, state, how = problem
    rng = np.random.default_rng(seed)
    others, other = rng.normal(size=impulses.shape), rng.normal(size=state.shape)
    actual = linear_recurrence(decays, factor * impulses + others, factor * state + other, **how)
    expected = factor * linear_recurrence(decays, impulses, state, **how)
    expected += linear_recurrence(decays, others, other, **how)
    magnitudes = np.abs(factor * impulses) + np.abs(others)
    states = np.abs(factor * state) + np.abs(other)
    assert_near(actual, expected, 2 * bound_of(decays, magnitudes, states, how))


@repeatable
@given(problems(), st.integers(1, 70))
def test_what_has_not_begun_does_not_matter(problem, steps):
    """Steps without impulses before the first one keep the state zero, whatever their decays."""
    decays, impulses, _, how = problem
    before = np.random.default_rng(steps).uniform(-1, 1, (steps, decays.shape[1]))
    order = slice(None, None, -1 if how["reverse"] else 1)
    longer = [
        np.concatenate([a, b][order], 0)
        for a, b in ((before, decays), (np.zeros_like(before), impulses))
    ]
    found = linear_recurrence(*longer, **how)
    kept, zeros = (found[: len(decays)], found[len(decays) :]) if how["reverse"] else (
        found[steps:], found[:steps]
    )  # fmt: skip
    assert not np.any(zeros)
    assert_near(
        kept, linear_recurrence(decays, impulses, **how), bound_of(decays, impulses, None, how)
    )


@repeatable
@given(problems(), st.randoms(use_true_random=False))
def test_columns_do_not_see_each_other(problem, random):
    decays, impulses, state, how = problem
    order = list(range(decays.shape[1]))
    random.shuffle(order)
    expected = linear_recurrence(decays, impulses, state, **how).numpy()[:, order]
    actual = linear_recurrence(decays[:, order], impulses[:, order], state[order], **how)
    # A column's place in its vector may decide how it is rounded.
    assert_near(actual, expected, bound_of(decays, impulses, state, how)[:, order])


@repeatable
@given(problems(most_steps=200))
def test_algorithms_and_axes_agree(problem):
    decays, impulses, state, how = problem
    bound = bound_of(decays, impulses, state, how)
    expected = linear_recurrence(decays, impulses, state, **how)
    for algorithm in (*NATIVE, "composed"):
        other = {**how, "algorithm": algorithm}
        assert_near(linear_recurrence(decays, impulses, state, **other), expected, bound)
        transposed = linear_recurrence(decays.T, impulses.T, state, axis=1, **other)
        assert_near(tf.transpose(transposed), expected, bound)


@pytest.mark.parametrize("cell", test_gated_recurrence.CELLS)
@settings(repeatable, max_examples=15)
@given(st.integers(1, 4), st.integers(1, 200), st.integers(1, 24), st.integers(0, 2**32 - 1))
def test_fused_is_unfused(cell, batch, steps, units, seed):
    rng = np.random.default_rng(seed)
    arguments, keywords = test_gated_recurrence.draw(
        rng, cell, (batch, steps, units), "float32", extras=bool(seed % 2)
    )
    tensors = test_gated_recurrence.as_tensors(arguments, "float32")
    exact = test_gated_recurrence.as_tensors(arguments, "float64")
    actual, _ = gated_recurrence(**tensors, keep_states=bool(units % 2), **keywords)
    expected, _ = unfused_gated_recurrence(**exact, **keywords)
    roundings = (16 + 8 * steps) * UNIT_ROUNDOFF["float32"]
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=roundings * scale)
