# SPDX-License-Identifier: MIT
"""Runs the code of README, docs and docstrings, and compares its output with theirs."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import keras
import pytest
import tensorflow as tf

import tf_plr

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.name: page.read_text() for page in PAGES}


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", [n for n in TEXTS if blocks(TEXTS[n], "python")])
def test_code_blocks(name, tmp_path, monkeypatch):
    """Runs all blocks of a page, in order, as one program."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(1)
    program = {}
    for block in blocks(TEXTS[name], "python"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, name, "exec"), program)
        said = re.findall(r"^\s*print\(.*\)  # (.*)$", block, re.MULTILINE)
        for comment, line in zip(said, printed.getvalue().splitlines(), strict=True):
            # A remark on the value may follow it.
            assert line == re.split(r", (?=[a-z])", comment)[0]


@pytest.mark.parametrize("name", TEXTS)
def test_links_and_commands(name):
    text, folder = TEXTS[name], (ROOT if name == "README.md" else ROOT / "docs")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text):
        assert (folder / target).exists(), target
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in re.findall(r"`make ([a-z][\w-]*)[^`\n]*`|^make (\w+)$", text, re.MULTILINE):
        assert "".join(command) in targets
    for script in re.findall(r"python (\S+\.py)", text):
        assert (ROOT / script).exists()


MODULES = [m.name for m in pkgutil.walk_packages(tf_plr.__path__, "tf_plr.")]
MODULES = [name for name in MODULES if not name.endswith((".tf_plr_ops", ".tf_plr_engine"))]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module):
    globs = {"tf": tf, "tf_plr": tf_plr, "keras": keras}
    failed, _ = doctest.testmod(importlib.import_module(module), extraglobs=globs)
    assert not failed


def test_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 130


def test_every_public_name_is_in_the_reference():
    for name in (*tf_plr.__all__, *tf_plr.layers.__all__):
        value = getattr(tf_plr, name, None) or getattr(tf_plr.layers, name)
        if callable(value):
            assert re.search(rf"::: tf_plr\S*\.{value.__name__}$", TEXTS["api.md"], re.MULTILINE)


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_is_left_to_fill_in(name):
    assert not re.search(r"@[A-Z]+@|TODO|FIXME", TEXTS[name])
