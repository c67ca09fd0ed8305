# SPDX-License-Identifier: MIT
"""What the CPU engine chooses, which no result shows; see also `make cpu-engine-test`."""

from support import build_and_run, needs_headers


@needs_headers
def test_choices(tmp_path):
    flags = ["-O1", "-w", "-Wno-psabi"]
    build_and_run(["tests/engine/cpu_choice_test.cc"], tmp_path / "cpu_choice_test", *flags)
