"""Many devices and processes train the model that one device would.

Real processes on this machine, with virtual devices of JAX. The last batch of a
pass is filled up, classes weigh differently, and dropout is on.
"""

import json
import signal

import numpy as np
import pytest

# The chapter `scale` trains in two processes, and goes on with one, on each push.
pytestmark = pytest.mark.weekly
pytest.importorskip("jax", reason="only JAX has many devices")
pytest.importorskip("tensorflow", reason="the pipelines are tf.data's")

from launch import finish, start
from PIL import Image

# 29 pictures to train on and 3 to validate with: in both, the last batch of 8
# is one that neither 2 nor 4 devices can share.
COUNTS = {"day": 14, "dusk": 9, "night": 9}
SECONDS = 600  # after which something hangs
BRIGHTNESS = {"day": 200, "dusk": 120, "night": 60}
TRAIN = """
import json, signal
import gcvit
import numpy as np
from gcvit import examples, pictures

out, read = os.environ["OUT"], pictures.read
distribution = keras.distribution.distribution()
if distribution is not None:
    distribution.auto_shard_dataset = True  # as it is by default
examples.CACHE_BYTES = 0  # each picture is decoded in each pass
decoded = []


def counting_read(*arguments):
    decoded.append(1)
    return read(*arguments)


class Killer(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (int(os.environ["KILLED_IN"]), 1):
            os.kill(os.getpid(), signal.SIGKILL)


def small_model():
    model = gcvit.GCViT(
        window_size=(4,), embed_dim=4, depths=(2,), num_heads=(1,),
        drop_rate=0.1, path_drop=0.2, num_classes=3,
    )
    model.build((None, 32, 32, 3))
    return model


def train_model(model, folder, epochs=3):
    return gcvit.fine_tune(
        model, train, validation, folder, head_epochs=0, epochs=epochs,
        verbose=2, class_weight={0: 0, 1: 1, 2: 3},
        metrics=["categorical_crossentropy"], callbacks=[Killer()],
    )


def is_refused(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except ValueError as error:
        print("refused:", error, flush=True)


keras.utils.set_random_seed(0)
pictures.read = counting_read
train, validation, names = gcvit.load_pictures(
    os.environ["PICTURES"], image_size=32, batch_size=8
)
loaded = len(decoded)
rows = [
    [float(image.sum()) for image in batch[0].numpy()] for batch in train
]
print("rows", json.dumps(rows), loaded, len(decoded) - loaded)
model = small_model()
history = train_model(model, out)
print("history", json.dumps(history), flush=True)
"""
OF_TWO_DEVICES = """
is_refused(gcvit.load_pictures, os.environ["PICTURES"], batch_size=31)
is_refused(gcvit.load_pictures, os.environ["PICTURES"], batch_size=1)
keras.distribution.set_distribution(None)
is_refused(train_model, model, None)
model = small_model()
train, validation, _ = gcvit.load_pictures(os.environ["PICTURES"], 32)
keras.distribution.set_distribution(distribution)
is_refused(train_model, model, None)
train, validation, _ = gcvit.load_pictures(os.environ["PICTURES"], 32)
is_refused(train_model, model, None)
"""
OF_TWO_PROCESSES = """
rank = jax.process_index()
is_refused(train_model, model, out, epochs=3 + rank)
is_refused(train_model, model, f"{out} of {rank}")
is_refused(train_model, model, None)
other = [os.environ["PICTURES"], os.environ["OTHER"]][rank]
is_refused(gcvit.load_pictures, other, batch_size=8)
keras.distribution.set_distribution(None)
is_refused(gcvit.load_pictures, os.environ["PICTURES"], batch_size=8)
keras.distribution.set_distribution(distribution)
"""


@pytest.fixture(scope="module")
def tmp_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("devices")


def draw(folder, counts):
    """Noise, of another brightness for each class."""
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            noise = random.normal(BRIGHTNESS[name], 40, (34, 40, 3))
            picture = Image.fromarray(np.clip(noise, 0, 255).astype("uint8"))
            picture.save(folder / name / f"{number:02}.png")


@pytest.fixture(scope="module")
def launched(tmp_folder):
    """Start runs with the same pictures, in folders of their own."""
    draw(tmp_folder / "pictures", COUNTS)
    draw(tmp_folder / "other", COUNTS | {"dusk": 10})

    def launch(name, count, devices, killed_in=-1, more=""):
        return start(
            TRAIN + more,
            count,
            devices,
            OUT=str(tmp_folder / name),
            PICTURES=str(tmp_folder / "pictures"),
            OTHER=str(tmp_folder / "other"),
            KILLED_IN=str(killed_in),
            TF_CPP_MIN_LOG_LEVEL="3",
        )

    return launch


@pytest.fixture(scope="module")
def texts(launched):
    """What was printed on one device; by 2 processes with 2 devices each; and

    by a run on 4 devices that was killed, on one that was killed, and on 2.
    """
    started = {
        "one": launched("one", 1, 1),
        "many": launched("many", 2, 2, more=OF_TWO_PROCESSES),
        "elastic": launched("elastic", 1, 4, killed_in=1),
    }
    texts = {name: finish(x, SECONDS) for name, x in started.items()}
    on_one = launched("elastic", 1, 1, killed_in=2)
    texts["elastic"] += finish(on_one, SECONDS)
    on_two = launched("elastic", 1, 2, more=OF_TWO_DEVICES)
    texts["elastic"] += finish(on_two, SECONDS)
    codes = {
        name: [code for code, _ in ended] for name, ended in texts.items()
    }
    killed = -signal.SIGKILL
    expected = {"one": [0], "many": [0, 0], "elastic": [killed, killed, 0]}
    assert codes == expected, texts
    return {name: [x for _, x in ended] for name, ended in texts.items()}


def printed(name, text):
    """What a program printed after a name."""
    lines = [x for x in text.splitlines() if x.startswith(f"{name} ")]
    return [line.removeprefix(f"{name} ") for line in lines]


def rows(text):
    """Numbers for the pictures of each batch; how many were decoded, to load

    them and in one pass.
    """
    listed, *decoded = printed("rows", text)[0].rsplit(" ", 2)
    return json.loads(listed), tuple(map(int, decoded))


# === Which pictures ===


def test_processes_share_the_batches_of_one(texts):
    whole, decoded = rows(texts["one"][0])
    assert [len(batch) for batch in whole] == [8, 8, 8, 5]
    assert decoded == (32, 29)
    first, second = map(rows, texts["many"])
    joined = [a + b for a, b in zip(first[0], second[0])]
    filled = joined[-1]
    assert joined[:-1] == whole[:-1] and filled[:5] == whole[-1]
    assert len(filled) == 8 and len(second[0][-1]) == 4
    assert first[1] == second[1] == (16, 16)
    (of_four, decoded), *_ = map(rows, texts["elastic"])
    assert of_four == joined and decoded == (32, 32)


def test_what_was_found_is_printed_once(texts):
    first, second = texts["many"]
    assert first.count("29 pictures to train: 13 day, 8 dusk, 8 night.") == 1
    assert "pictures to train" not in second


# === The same model ===


def state(folder):
    (path,) = folder.glob("states/*.npz")
    assert path.name == "000003-all.npz"
    with np.load(path) as arrays:
        return list(arrays.values())


@pytest.mark.parametrize("name", ["many", "elastic"])
def test_the_model_is_that_of_one_device(texts, tmp_folder, name):
    one = state(tmp_folder / "one")
    for array, expected in zip(state(tmp_folder / name), one, strict=True):
        # The learning rate is 1e-3, and Adam makes steps of the signs of
        # gradients that are almost 0. Without filler's weights: 2e-2.
        np.testing.assert_allclose(array, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["many", "elastic"])
def test_each_measurement_is_that_of_one_device(texts, tmp_folder, name):
    one = json.loads(printed("history", texts["one"][0])[0])
    assert np.ptp(one["loss"]) > 0.1 and "categorical_crossentropy" in one
    for text in texts[name][-2:] if name == "many" else texts[name][-1:]:
        history = json.loads(printed("history", text)[0])
        assert set(history) == set(one)
        for measure, values in one.items():
            np.testing.assert_allclose(history[measure], values, rtol=1e-4)


@pytest.mark.parametrize("name", ["many", "elastic"])
def test_the_folder_is_that_of_one_device(texts, tmp_folder, name):
    one, other = tmp_folder / "one", tmp_folder / name
    assert {x.relative_to(other) for x in other.rglob("*")} == {
        x.relative_to(one) for x in one.rglob("*")
    }
    settings = [
        json.loads((x / "settings.json").read_text()) for x in (one, other)
    ]
    assert settings[0] == settings[1]


# === The course of a run ===


def test_one_process_shows_the_progress_of_all(texts):
    first, second = texts["many"]
    for epoch in (1, 2, 3):
        assert first.count(f"Epoch {epoch}/3") == 1
    assert first.count(" - loss: ") == 3
    assert "Epoch" not in second and "loss: " not in second


def test_a_run_goes_on_with_other_devices(texts):
    began = [
        [epoch for epoch in (1, 2, 3) if f"Epoch {epoch}/3" in text]
        for text in texts["elastic"]
    ]
    assert began == [[1, 2], [2, 3], [3]]


# === What is refused ===


def test_what_devices_cannot_share_is_refused(texts):
    refused = iter(printed("refused:", texts["elastic"][-1]))
    assert next(refused).startswith(
        "batch_size=31 cannot be shared by 2 devices; 30 and 32 would."
    )
    assert "1 cannot be shared by 2 devices; 2 would." in next(refused)
    for made_for, train_on in [
        ("train was made for 2 devices", "on 1 device."),
        ("train was made for 1 device", "on 2 devices."),
        ("the model was built for 1 device", "on 2 devices."),
    ]:
        assert f"{made_for}, to train {train_on} Call" in next(refused)


def test_processes_that_do_not_agree_are_refused(texts):
    first, second = (printed("refused:", text) for text in texts["many"])
    alike = ("epochs", "folder", "None", "pictures", "device")
    for a, b, word in zip(first, second, alike, strict=True):
        assert word in a and word in b
    assert first[0] == second[0]
    assert "agree in epochs: 3 in process 0, 4 in process 1" in first[0]
    assert "of process 1 is not that of process 0" in second[1]
    assert first[3] == second[3]
    assert (
        "process 1 33 pictures, 1 of which not all have (dusk/09.png)"
        in (first[3])
    )
