"""A release: the same to the byte, and the tree's files and no others."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from tools import release, stamp


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the archive."""
    return release.build(tmp_path_factory.mktemp("dist"))


def test_two_builds_are_the_same_to_the_byte(built, tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    monkeypatch.setattr(release.tempfile, "tempdir", str(tmp_path))
    mask = os.umask(0o077)
    try:
        again = release.build(tmp_path / "dist")
    finally:
        os.umask(mask)
    for first, second in zip(built, again):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


def test_the_files_of_the_tree_are_in_and_no_others(built):
    assert not release.differences(*built)
    wheel, _ = built
    names = zipfile.ZipFile(wheel).namelist()
    assert {"gcvit/data/nano.weights.h5", "gcvit/model.py"} <= set(names)
    licences = [name for name in names if "/licenses/LICENSE" in name]
    assert len(licences) == 3


def test_what_is_in_and_should_not_be_is_named(built, tmp_path, monkeypatch):
    wheel, archive = (shutil.copy(path, tmp_path) for path in built)
    with zipfile.ZipFile(wheel, "a") as more:
        more.writestr("gcvit/secret.txt", "")
    git = release.git
    monkeypatch.setattr(
        release, "git", lambda *words: f"gcvit/new.py\n{git(*words)}"
    )
    lines = release.differences(tmp_path / wheel, tmp_path / archive)
    number = release.version()
    assert lines == [
        f"gcvit_book-{number}-py3-none-any.whl lacks: gcvit/new.py",
        f"gcvit_book-{number}-py3-none-any.whl has: gcvit/secret.txt",
        f"gcvit_book-{number}.tar.gz lacks: gcvit/new.py",
    ]


def test_an_index_would_take_both(built):
    twine = [sys.executable, "-m", "twine", "check", "--strict", *built]
    done = subprocess.run(twine, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    with tarfile.open(built[1]) as archive:
        members = archive.getmembers()
    assert {(m.uid, m.uname, m.mode) for m in members} == {(0, "", 0o644)}


def test_the_links_of_the_long_description_lead_to_this_version(built):
    """An index shows the README, and has none of the files beside it."""
    with zipfile.ZipFile(built[0]) as wheel:
        [name] = [x for x in wheel.namelist() if x.endswith("/METADATA")]
        text = wheel.read(name).decode()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links and all(link.startswith("https://") for link in links)
    address, tag = stamp.address(), f"v{release.version()}"
    assert f"{address}/blob/{tag}/CONTRIBUTING.md" in links
    assert f"{address}/raw/{tag}/book/_static/figures/book.png" in links


def test_a_release_is_refused_with_the_reason(monkeypatch):
    number, said = release.version(), {}
    monkeypatch.setattr(release, "git", lambda *words: said.get(words[0], ""))
    assert release.why_not(None) is None
    assert release.why_not(f"v{number}") is None
    assert f"the version in pyproject.toml {number}" in release.why_not("v9.9")
    said["tag"] = f"v{number}"  # on this commit
    assert release.why_not(f"v{number}") is None
    said["status"] = " M README.md"
    assert release.why_not(None) == (
        "There are changes; commit them first:\n M README.md"
    )


def test_a_version_that_was_forgotten_is_noticed(monkeypatch):
    number = release.version()
    monkeypatch.setattr(
        release,
        "git",
        lambda *words: f"v{number}" if words[:2] == ("tag", "--list") else "",
    )
    assert release.why_not(None).startswith(
        f"The tag v{number} is on another commit: {number} is released."
    )
    monkeypatch.setattr(release, "first_in_changelog", lambda: "9.9.9")
    assert release.why_not(None) == (
        "CHANGELOG.md opens with 9.9.9, "
        f"the version in pyproject.toml is {number}."
    )
    monkeypatch.setattr(release, "version", lambda: "9.9.9")
    assert release.why_not(None) == "CHANGELOG.md has nothing under 9.9.9."


def test_the_changes_of_a_version_are_its_own():
    text = release.changes(release.version())
    assert text.startswith("- ") and "## " not in text
    assert not re.search(r"\s$", text)
    assert "Layers equal to the official" in release.changes("0.1.0")
