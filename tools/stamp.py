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


def stamped_address():
    """The address that the other files carry."""
    project = (ROOT / "pyproject.toml").read_text()
    return re.search(r'^Repository = "(.+)"$', project, re.M).group(1)


def places():
    """The files that carry a copy of the address."""
    names = ["README.md", "CITATION.cff", "pyproject.toml"]
    patterns = ["book/*.md", "book/*.ipynb", "gcvit/*.py"]
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return [ROOT / name for name in names] + sorted(found)


def main():
    old, new = stamped_address(), address()
    for path in places():
        text = path.read_text()
        if old != new and old in text:
            path.write_text(text.replace(old, new))
            print(f"stamped {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
