"""What stands in one place stands there only, and its copies agree."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from benchmarks import speed
from tools import stamp

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_each_copy_of_the_address_is_the_address():
    assert stamp.stamped_address() == stamp.address(), "run: make stamp"
    must_have = ["README.md", "SECURITY.md", "CITATION.cff", "book/intro.md"]
    must_have += [f"book/{path.name}" for path in ROOT.glob("book/*.ipynb")]
    for path in stamp.places():
        text = path.read_text()
        found = {copy[1] for copy in re.findall(stamp.copies(), text)}
        name = path.relative_to(ROOT).as_posix()
        assert found <= {stamp.slug()}, f"{name}; run: make stamp"
        assert found or name not in must_have, f"no address in {name}"


def test_the_address_is_this_repository_on_github():
    here = os.environ.get("GITHUB_REPOSITORY")
    # Outside GitHub there is nothing to compare the address with.
    assert here is None or stamp.address().endswith(f"/{here}"), (
        f"this is {here}: set repository: url in _config.yml, run: make stamp"
    )


def test_the_conda_environment_is_the_locked_one():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "pip"]
    assert pip == {"pip": ["-r requirements.lock"]}
    assert PROJECT["requires-python"] == ">=3.11"


def test_the_lock_pins_everything_with_hashes_and_names_no_registry():
    text = (ROOT / "requirements.lock").read_text()
    entries = text.replace(" \\\n    ", " ").splitlines()
    form = r"([\w.-]+)==[\w.]+( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})+"
    found = [re.fullmatch(form, entry) for entry in entries]
    assert all(found)
    pinned = {entry[1] for entry in found}
    wanted = [
        re.match(r"[\w-]+", requirement).group()
        for extra in PROJECT["optional-dependencies"].values()
        for requirement in extra
    ]
    assert set(wanted) - {"gcvit-book"} <= pinned, "run: make lock"


def test_other_environments_get_the_locks_versions_without_hashes():
    """pip takes no requirement without a hash where a constraint has one."""
    command = re.search(
        r"^VERSIONS := (.+)$", (ROOT / "Makefile").read_text(), re.M
    )[1].replace("$$", "$")
    versions = subprocess.check_output(
        ["sh", "-c", command], cwd=ROOT, text=True
    )
    lock = (ROOT / "requirements.lock").read_text()
    assert len(versions.splitlines()) == len(re.findall(r"^\S", lock, re.M))
    assert all(
        re.fullmatch(r"[\w.-]+==[\w.]+( ; [^\\]+)?", line)
        for line in versions.splitlines()
    )


def test_the_browser_s_runtime_is_pinned_and_names_no_registry():
    folder = ROOT / "tools" / "onnxruntime_web"
    lock = json.loads((folder / "package-lock.json").read_text())
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    root = lock["packages"].pop("")
    assert root["dependencies"] == wanted
    for name, package in lock["packages"].items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
    [(name, version)] = wanted.items()
    assert lock["packages"][f"node_modules/{name}"]["version"] == version


def test_the_changelog_opens_with_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    first = re.search(r"^## (\S+)", changelog, re.M).group(1)
    assert first == PROJECT["version"]


def test_the_oldest_stack_is_the_declared_one():
    oldest = (ROOT / "tests" / "backends" / "oldest.txt").read_text()
    pinned = re.search(r"^keras==(\d+\.\d+)", oldest, re.M).group(1)
    assert PROJECT["dependencies"] == [f"keras>={pinned}"]


def test_the_stored_speeds_are_of_the_rows_that_are_measured():
    tables = speed.TABLES.read_text("utf-8").split("### ")[1:]
    assert len(tables) >= len(speed.SETTINGS)
    for lines in tables:
        task = lines.split(",")[0].lower()
        rows = re.findall(r"^\| ([^|]+) \| [\d.]+ images/s \|", lines, re.M)
        measured = speed.PEERS | speed.OURS | speed.EXPORTED
        assert rows == [
            name for name, row in measured.items() if task in row.tasks
        ], "run: make benchmark"


# === Where data is looked for ===

FOLDERS = {
    "CIFAR10_DIR": ("", "cifar10_jpeg.npz"),
    "TFDS_DATA_DIR": ("tensorflow_datasets", "tf_flowers/a"),
}


@pytest.fixture
def ci_run(tmp_path):
    """Runs .ci/run where `make` says which folders it was given."""
    for folder in ("repository/.ci", "repository/.venv/bin", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "repository/.ci")
    say = "\n".join(f'echo "{name}=${{{name}-}}"' for name in FOLDERS)
    for name, script in {
        "bin/make": say,
        "bin/chromium": "",
        "repository/.venv/bin/python": "",
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def run(**variables):
        here = {k: v for k, v in os.environ.items() if k not in FOLDERS}
        here["PATH"] = f"{tmp_path / 'bin'}:{here['PATH']}"
        done = subprocess.run(
            ["bash", tmp_path / "repository/.ci/run"],
            env=here | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(line.split("=") for line in done.stdout.splitlines())

    return run


def test_data_is_taken_from_the_folders_that_are_named(ci_run, tmp_path):
    assert ci_run() == {name: "" for name in FOLDERS}
    named = {name: f"/somewhere/{name}" for name in FOLDERS}
    assert ci_run(**named) == named
    beside = tmp_path / "shared" / "data"
    for folder, file in FOLDERS.values():
        path = beside / folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = {
        name: tmp_path / "repository/../shared/data" / folder
        for name, (folder, _) in FOLDERS.items()
    }
    assert {k: Path(v).resolve() for k, v in ci_run().items()} == {
        name: path.resolve() for name, path in found.items()
    }
    assert ci_run(**named) == named
