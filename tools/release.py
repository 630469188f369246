"""Build the wheel and the source archive of the last commit, and check them.

    python tools/release.py
    python tools/release.py --changes

They are in `dist/`, and always the same, to the byte: made from the files that
git has, with the time of the commit. If the environment variable TAG is set,
such as v0.2.0, it has to be this version's. `--changes` prints what the
changelog says of this version.
"""

import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "gcvit_book"
# What the archive has beyond the package and its metadata.
BESIDE = ("LICENSE", "LICENSE-TEXT", "LICENSE-WORDNET", "README.md")
MADE = ("MANIFEST.in", "PKG-INFO", "pyproject.toml", "setup.cfg")


def project():
    """What pyproject.toml says of the project."""
    text = (ROOT / "pyproject.toml").read_text()
    return tomllib.loads(text)["project"]


def version():
    """The version, from its one home."""
    return project()["version"]


def git(*arguments):
    """Run git in the project, and give what it prints."""
    command = ["git", *arguments]
    return subprocess.check_output(command, cwd=ROOT, text=True)


def changes(number):
    """What the changelog says of a version, without its heading."""
    text = (ROOT / "CHANGELOG.md").read_text()
    found = re.search(
        rf"^## {re.escape(number)}\n+(.+?)\s*(?=^## |\Z)", text, re.M | re.S
    )
    return found[1] if found else None


def first_in_changelog():
    """The version with which the changelog opens."""
    text = (ROOT / "CHANGELOG.md").read_text()
    return re.search(r"^## (\S+)", text, re.M)[1]


def nothing_under(number):
    """Say that the changelog lacks a version, or its changes."""
    return f"CHANGELOG.md has nothing under {number}."


def why_not(tag):
    """Say why this is not to be released; `None` if it is."""
    number, name = version(), f"v{version()}"
    changed = git("status", "--porcelain")
    if changed:
        return f"There are changes; commit them first:\n{changed}"
    if tag and tag != name:
        return f"The tag is {tag}, the version in pyproject.toml {number}."
    if first_in_changelog() != number:
        return (
            f"CHANGELOG.md opens with {first_in_changelog()}, "
            f"the version in pyproject.toml is {number}."
        )
    if not changes(number):
        return nothing_under(number)
    if git("tag", "--list", name) and not git(
        "tag", "--points-at", "HEAD", "--list", name
    ):
        return (
            f"The tag {name} is on another commit: {number} is released. "
            "Write the next version in pyproject.toml and CHANGELOG.md."
        )
    return None


def copy_tree(folder):
    """Copy the files that git has, with the same rights wherever."""
    for name in git("ls-files").splitlines():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, path)
        path.chmod(0o644)


def with_full_links(readme):
    """Let links to files of the repository lead there from an index, too.

    They lead to the files as they are at this version's tag.
    """
    address = project()["urls"]["Repository"]

    def full(match):
        kind = "raw" if match[1].startswith("!") else "blob"
        return f"{match[1]}({address}/{kind}/v{version()}/{match[2]})"

    return re.sub(r"(!?\[[^]]*\])\((?!https:)([^)]+)\)", full, readme)


def repack(path, seconds):
    """Take time, owner and order of its building out of an archive."""
    with tarfile.open(path) as archive:
        members = sorted(archive.getmembers(), key=lambda member: member.name)
        files = {
            member.name: archive.extractfile(member).read()
            for member in members
            if member.isfile()
        }
    packed = io.BytesIO()
    with tarfile.open(
        fileobj=packed, mode="w", format=tarfile.PAX_FORMAT
    ) as to:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(data), seconds, 0o644
            to.addfile(member, io.BytesIO(data))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=seconds))


def build(folder):
    """Build both into a folder, and give their paths: wheel and archive."""
    seconds = int(git("log", "-1", "--format=%ct"))
    with tempfile.TemporaryDirectory() as tree:
        copy_tree(Path(tree))
        readme = Path(tree) / "README.md"
        readme.write_text(with_full_links(readme.read_text()))
        subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation"]
            + ["--outdir", folder, tree],
            env=os.environ | {"SOURCE_DATE_EPOCH": str(seconds)},
            umask=0o022,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    wheel = folder / f"{NAME}-{version()}-py3-none-any.whl"
    archive = folder / f"{NAME}-{version()}.tar.gz"
    repack(archive, seconds)
    return wheel, archive


def names_in_wheel(path):
    """What a wheel has: the package's files, and its licences."""
    licences = f"{NAME}-{version()}.dist-info/licenses/"
    with zipfile.ZipFile(path) as wheel:
        names = [name.removeprefix(licences) for name in wheel.namelist()]
    return {name for name in names if ".dist-info/" not in name}


def names_in_archive(path):
    """What an archive has, without what setuptools makes."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return {name for name in names if f"{NAME}.egg-info/" not in name}


def differences(wheel, archive):
    """What is in a file and should not be, or the other way round: lines."""
    package = set(git("ls-files", "gcvit").splitlines())
    licences = set(BESIDE) - {"README.md"}
    expected = {
        wheel: (names_in_wheel(wheel), package | licences),
        archive: (names_in_archive(archive), package | {*BESIDE, *MADE}),
    }
    return [
        f"{path.name} {verb}: {name}"
        for path, (found, wanted) in expected.items()
        for verb, names in (("lacks", wanted - found), ("has", found - wanted))
        for name in sorted(names)
    ]


def main():
    if sys.argv[1:] == ["--changes"]:
        found = changes(version())
        if not found:
            sys.exit(nothing_under(version()))
        print(found)
        return
    folder = ROOT / "dist"
    shutil.rmtree(folder, ignore_errors=True)  # what is there was checked
    reason = why_not(os.environ.get("TAG"))
    if reason:
        sys.exit(reason)
    built = build(folder)
    wrong = differences(*built)
    if wrong:
        sys.exit("\n".join(wrong))
    twine = [sys.executable, "-m", "twine", "check", "--strict"]
    subprocess.run([*twine, *built], check=True)


if __name__ == "__main__":
    main()
