# SPDX-License-Identifier: MIT
"""The short form of fuzz.py."""

import fuzz


def test_random_problems():
    counts, failed = fuzz.run(seed=1, numbers=range(150))
    assert not failed, failed
    assert set(counts) == {"recurrence", "gated", "windows", "normalization", "packed"}


def test_a_problem_is_drawn_again():
    assert fuzz.problem_of(0, 7)[0] == fuzz.problem_of(0, 7)[0] != fuzz.problem_of(0, 8)[0]
