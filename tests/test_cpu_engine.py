# SPDX-License-Identifier: MIT
"""What the CPU engine chooses, which no result shows; see also `make cpu-engine-test`."""

from conftest import build_and_run, needs_headers


@needs_headers
def test_choices(tmp_path):
    flags = ["-O1", "-w", "-Wno-psabi"]
    build_and_run(["tests/cpu_choice_test.cc"], tmp_path / "cpu_choice_test", *flags)
