"""Suites are counted, and what is missing is skipped only where it may be."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import presence

ROOT = Path(__file__).resolve().parents[1]
TESTS = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_numbers(number):
    pass

@pytest.mark.skip(reason="never")
def test_never():
    pass

@pytest.mark.needs_cifar10
def test_data():
    pass
"""
ABSENT = 'import pytest\npytest.importorskip("nothing_of_this_name")\n'
WHOLE = {"passed": 4, "skipped": 2}


@pytest.fixture
def run(tmp_path):
    """Runs a small suite in its own folder; gives status and output."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_small.py").write_text(TESTS)
    (tmp_path / "tests" / "test_absent.py").write_text(ABSENT)
    (tmp_path / "tests" / "expected_counts.json").write_text("{}")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def call(*options, **variables):
        ours = {"CI", "CIFAR10_DIR", "PYTEST_ADDOPTS", "GCVIT_WRITE_COUNTS"}
        clean = {k: v for k, v in os.environ.items() if k not in ours}
        clean["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "tools.suites"]
            + ["--suite", "small", *options],
            cwd=tmp_path,
            env=clean | {"PYTHONPATH": str(ROOT)} | variables,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    return call


@pytest.fixture
def stored(run, tmp_path):
    """The counts that the whole suite has stored."""
    assert run(GCVIT_WRITE_COUNTS="1")[0] == 0
    path = tmp_path / "tests" / "expected_counts.json"
    return json.loads(path.read_text())


def test_what_may_be_absent_counts_as_passed(run, stored, tmp_path):
    assert stored == {"small": WHOLE}
    status, said = run(CI="true", GCVIT_MAY_BE_ABSENT="cifar10")
    assert status == 0 and '"passed": 3, "skipped": 2, "absent": 1' in said
    (tmp_path / "cifar10_jpeg.npz").touch()
    status, said = run(CI="true", CIFAR10_DIR=str(tmp_path))
    assert status == 0 and '"passed": 4, "skipped": 2, "absent": 0' in said


def test_what_is_missing_fails_ci(run, stored):
    status, said = run(CI="true", GCVIT_MAY_BE_ABSENT="chromium npm")
    assert status == 1
    assert "cifar10 is absent: set CIFAR10_DIR" in said


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")])
def test_a_suite_that_loses_a_test_fails_ci(run, stored, options):
    fewer = ("-k", "not numbers or 0", *options)
    allowed = {"GCVIT_MAY_BE_ABSENT": "cifar10"}
    status, said = run(*options, CI="true", **allowed)
    assert status == 0, said
    status, said = run(*fewer, CI="true", **allowed)
    assert status == 1
    assert f"says {json.dumps(WHOLE)}. If it is to be" in said
    status, said = run(*fewer)
    assert status == 0 and "If it is to be" in said


def test_a_suite_that_is_not_stored_fails_ci(run):
    allowed = {"GCVIT_MAY_BE_ABSENT": "cifar10"}
    status, said = run(CI="true", **allowed)
    assert status == 1 and "says null" in said


def test_only_what_is_known_may_be_absent(monkeypatch):
    monkeypatch.setenv("GCVIT_MAY_BE_ABSENT", "cifar")
    with pytest.raises(ValueError, match="names cifar; it can name chromium"):
        presence.may_be_absent("cifar10")


def test_ci_ends_at_once_on_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(presence, "is_there", lambda name: name == "npm")
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("GCVIT_MAY_BE_ABSENT", "chromium")
    with pytest.raises(SystemExit, match="cifar10 is absent: set"):
        presence.main()
    monkeypatch.setenv("GCVIT_MAY_BE_ABSENT", "chromium cifar10 tf_flowers")
    presence.main()
    assert "absent, as it may be: cifar10" in capsys.readouterr().out


def test_each_suite_is_stored_and_no_other():
    text = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"--suite ([a-z-]+)", text))
    path = ROOT / "tests" / "expected_counts.json"
    assert set(json.loads(path.read_text())) == named
