"""What a suite of tests must come to: a plugin of pytest.

A test marked `needs_cifar10` is skipped where CIFAR-10 may be absent, and
fails where it may not: see `tools/presence.py`, also for the other names.

`--suite jax` says which suite is run. What has passed and what was skipped is
then printed, and held against `tests/expected_counts.json`: in CI a difference
is an error. Tests skipped for what may be absent count as passed there.
`GCVIT_WRITE_COUNTS=1 make test` stores what was counted; with `bash .ci/run`
it does for all suites.
"""

import json
import os

import pytest

from tools import presence

ABSENT = "absent: "
LINES = pytest.StashKey()


def pytest_addoption(parser):
    group = parser.getgroup("suites")
    group.addoption("--suite", help="name of the suite, as it is stored")


def pytest_configure(config):
    for name, remedy in presence.REMEDIES.items():
        line = f"needs_{name}: skipped or failed without it; {remedy}"
        config.addinivalue_line("markers", line)


def pytest_runtest_setup(item):
    for name in presence.FINDERS:
        if not item.get_closest_marker(f"needs_{name}"):
            continue
        if presence.is_there(name):
            continue
        if presence.may_be_absent(name):
            pytest.skip(f"{ABSENT}{name}; {presence.REMEDIES[name]}")
        pytest.fail(presence.remedy(name), pytrace=False)


def count(config):
    """Count what has passed, was skipped, and was skipped as absent."""
    stats = config.pluginmanager.get_plugin("terminalreporter").stats
    skipped = [str(report.longrepr) for report in stats.get("skipped", [])]
    absent = sum(ABSENT in reason for reason in skipped)
    return {
        "passed": len(stats.get("passed", [])),
        "skipped": len(skipped) - absent,
        "absent": absent,
    }


def as_stored(counts):
    """Give the counts as if nothing were absent."""
    passed = counts["passed"] + counts["absent"]
    return {"passed": passed, "skipped": counts["skipped"]}


def store(path, suite, counts):
    """Write a suite's counts."""
    stored = json.loads(path.read_text())
    stored[suite] = as_stored(counts)
    text = json.dumps(dict(sorted(stored.items())), indent=2)
    path.write_text(f"{text}\n")


def difference(path, suite, counts):
    """Say what is not as stored; `None` if all is."""
    expected = json.loads(path.read_text()).get(suite)
    found = as_stored(counts)
    if found == expected:
        return None
    return (
        f"{path.name} says {json.dumps(expected)}. If it is to be "
        f'{json.dumps(found)}, write so, under "{suite}".'
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    """Judge the counts, in the process that has all reports."""
    config = session.config
    suite = config.getoption("--suite")
    if not suite or hasattr(config, "workerinput"):
        return
    path = config.rootpath / "tests" / "expected_counts.json"
    counts = count(config)
    passed = session.exitstatus == pytest.ExitCode.OK
    if passed and "GCVIT_WRITE_COUNTS" in os.environ:
        store(path, suite, counts)
    wrong = difference(path, suite, counts) if passed else None
    if wrong and "CI" in os.environ:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    lines = [f"{suite}: {json.dumps(counts)}", wrong]
    config.stash[LINES] = list(filter(None, lines))


def pytest_terminal_summary(terminalreporter, config):
    if LINES in config.stash:
        terminalreporter.section("suite")
        for line in config.stash[LINES]:
            terminalreporter.write_line(line)
