"""Write the repository's address everywhere it stands.

    python tools/stamp.py

The address has one home, `repository: url` in `_config.yml`. Change it there,
then run this.
"""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def address():
    """The repository's address, from its one home."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    return config["repository"]["url"]


def slug():
    """The repository's owner and name, such as "owner/name"."""
    return "/".join(address().split("/")[-2:])


def stamped_address():
    """The address that the other files carry."""
    project = (ROOT / "pyproject.toml").read_text()
    return re.search(r'^Repository = "(.+)"$', project, re.M).group(1)


def copies():
    """A pattern of the owner and name in the links to the repository."""
    names = {url.rsplit("/", 1)[1] for url in (address(), stamped_address())}
    names = "|".join(map(re.escape, sorted(names)))
    return rf"(?<=github)((?:\.com)?/)([\w.-]+/(?:{names}))(?![\w-])"


def places():
    """The files that carry a copy of the address."""
    names = ["README.md", "SECURITY.md", "CITATION.cff", "pyproject.toml"]
    patterns = ["book/*.md", "book/*.ipynb", "gcvit/*.py"]
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return [ROOT / name for name in names] + sorted(found)


def main():
    pattern = copies()  # before pyproject.toml changes
    for path in places():
        text = path.read_text()
        stamped = re.sub(pattern, rf"\1{slug()}", text)
        if stamped != text:
            path.write_text(stamped)
            print(f"stamped {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
