# SPDX-License-Identifier: MIT
"""Runs the test files that it is given: the main program of Bazel's Python tests."""

import sys

import pytest

sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
