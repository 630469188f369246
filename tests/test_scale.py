"""What the chapter `scale` cuts, and its program for PyTorch."""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys

import keras
import launch
import numpy as np
import pytest

from gcvit import GCViT
from gcvit.scale import layout_map

# Two steps, and what is left on a device: of the weights, of the averages.
STEPS = """
import json

import numpy as np
from keras import distribution

import gcvit
from gcvit.scale import layout_map

distribution.set_distribution(None)
shape = json.loads(os.environ["MESH"])
if shape:
    mesh = distribution.DeviceMesh(shape, ("batch", "model"))
    distribution.set_distribution(
        distribution.ModelParallel(layout_map=layout_map(mesh))
    )
random = np.random.default_rng(0)
images = random.normal(size=(8, 32, 32, 3)).astype("float32")
keras.utils.set_random_seed(0)
model = gcvit.GCViT(  # two levels have all kinds of weights
    (4, 4), 32, (2, 2), (1, 2), path_drop=0, num_classes=8
)
model.build((None, 32, 32, 3))
model.compile("adam", "sparse_categorical_crossentropy")
labels = np.arange(8)
losses = [float(model.train_on_batch(images, labels)) for step in range(2)]
held = [
    sum(x.value.addressable_shards[0].data.nbytes for x in variables)
    for variables in (model.weights, model.optimizer.variables)
]
answers = model.predict(images, verbose=0).tolist()
print("found", json.dumps([losses, held, answers]))
"""


def mesh(*shape):
    """A mesh of devices that nobody needs to have."""
    count = shape[0] * shape[1]
    names = [f"cpu:{number}" for number in range(count)]
    return keras.distribution.DeviceMesh(shape, ("batch", "model"), names)


@pytest.mark.parametrize("variant", ["nano", "xxtiny", "small"])
def test_every_large_weight_is_cut(variant):
    model = GCViT.from_variant(variant)
    size = 64 if variant == "nano" else 224
    model.build((None, size, size, 3))
    layouts = layout_map(mesh(1, 4))
    whole = []
    for weight in model.weights:
        layout = layouts[weight.path]
        if layout is None:
            whole.append(math.prod(weight.shape))
            continue
        assert len(layout.axes) == len(weight.shape), weight.path
        cut = weight.shape[layout.axes.index("model")]
        assert cut % 4 == 0, weight.path
    assert sum(whole) < 0.05 * model.count_params()
    assert max(whole) < 0.01 * model.count_params()


def test_a_mesh_without_the_axis_is_refused():
    wrong = keras.distribution.DeviceMesh((2,), ("batch",), ["cpu:0", "cpu:1"])
    with pytest.raises(ValueError, match="Invalid axis names"):
        layout_map(wrong)


# === On virtual devices ===


@pytest.fixture(scope="module")
def found():
    """Losses, bytes and answers: of one device, of two kinds of meshes."""
    pytest.importorskip("jax", reason="keras.distribution is JAX's")
    started = [
        process
        for shape in ([], [1, 4], [2, 2])
        for process in launch.start(STEPS, devices=4, MESH=json.dumps(shape))
    ]
    ended = launch.finish(started, seconds=400)
    assert [code for code, _ in ended] == [0, 0, 0], ended
    texts = [text.rpartition("found ")[2] for _, text in ended]
    return [json.loads(text.splitlines()[0]) for text in texts]


@pytest.mark.weekly  # the chapter cuts `nano` on each push
@pytest.mark.parametrize("number", [1, 2])
def test_a_cut_model_trains_and_answers_as_the_whole_one(found, number):
    (losses, _, answers), cut = found[0], found[number]
    assert cut[0] == pytest.approx(losses, rel=1e-5)
    for row, expected in zip(cut[2], answers, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)


@pytest.mark.weekly
def test_each_device_holds_its_part(found):
    whole, four, two = (np.array(held) for _, held, _ in found)
    # 5.7 % are whole on each. The averages are cut, too.
    assert (four < 0.293 * whole).all()
    assert (two < 0.529 * whole).all()


# === PyTorch ===


def program_for_torch():
    """The chapter's program for PyTorch, from its page."""
    path = launch.ROOT / "book" / "scale.ipynb"
    cells = json.loads(path.read_text("utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.M)
    (program,) = [x for x in blocks if "DistributedDataParallel" in x]
    return program


def losses_in_torch(path, count):
    """What the program prints in several processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run"]
    address = launch.free_address().rpartition(":")[2]
    ended = subprocess.run(
        [
            *launcher,
            f"--nproc-per-node={count}",
            "--master-addr=127.0.0.1",
            f"--master-port={address}",
            path,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(launch.ROOT)},
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return [float(line) for line in ended.stdout.split()]


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="the program is PyTorch's, which is not installed here",
)
def test_the_program_for_torch_does_what_one_process_does(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(program_for_torch(), "utf-8")
    one, two = (losses_in_torch(path, count) for count in (1, 2))
    assert len(one) == 2 and one[1] < one[0]
    assert two == pytest.approx(one, rel=1e-5)
