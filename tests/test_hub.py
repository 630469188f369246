"""The hub: Keras's own route, against a folder, and the card beside a model."""

import importlib.util
import json
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from helpers import SMALL, numpy, random_images, small_model

import gcvit
from gcvit import hub

NAMES = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture
def folder_as_hub(tmp_path, monkeypatch):
    """Stand in for `huggingface_hub`: repositories are folders."""
    from keras.src.saving import saving_lib

    def upload_folder(repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, tmp_path / repo_id, dirs_exist_ok=True)

    api = SimpleNamespace(
        create_repo=lambda name, exist_ok: SimpleNamespace(repo_id=name),
        upload_folder=upload_folder,
    )
    stand_in = SimpleNamespace(
        HfApi=lambda **library: api,
        snapshot_download=lambda repo_id, **library: str(tmp_path / repo_id),
    )
    monkeypatch.setattr(saving_lib, "huggingface_hub", stand_in)
    monkeypatch.setattr(saving_lib, "check_pydot", lambda: False)
    return tmp_path


@pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow"),
    reason="Keras reads `hf://` with TensorFlow's help",
)
def test_a_model_goes_to_the_hub_and_comes_back(folder_as_hub):
    model = small_model(class_names=NAMES)
    model.save("hf://user/insects")
    assert (folder_as_hub / "user" / "insects" / "config.json").exists()
    loaded = keras.saving.load_model("hf://user/insects")
    assert type(loaded) is gcvit.GCViT and loaded.class_names == NAMES
    x = random_images()
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))


def test_a_card_says_what_is_known(tmp_path):
    history = {"val_balanced_accuracy": [0.5, 0.8125, 0.7], "val_loss": [1, 2]}
    (tmp_path / "history.json").write_text(json.dumps(history))
    model = small_model(class_names=NAMES)
    card = hub.model_card(model, "CC BY-NC-SA 4.0", "insects", tmp_path)
    assert card.startswith("---\nlibrary_name: keras\n")
    for part in (
        "license: cc-by-nc-sa-4.0\n",
        "ant, bee, cat, dog, eel",
        "Data: insects",
        "val_balanced_accuracy 0.8125",
        "not for commercial use",
        f"{model.count_params():,} parameters",
        "32×32",
    ):
        assert part in card, part


def test_what_is_not_known_is_not_claimed():
    card = hub.model_card(small_model(), "Apache-2.0", "insects")
    assert "Validation: not measured" in card
    assert "Classes: 5, without names" in card
    assert "NVIDIA" not in card


def test_each_variants_licence_has_a_card():
    licences = {row.licence for row in gcvit.variants.ROWS.values()}
    assert licences == set(hub.LICENCES) == set(hub.TERMS)


def test_what_cannot_have_a_card_is_refused(tmp_path):
    with pytest.raises(ValueError, match="licence='MIT' is unknown"):
        hub.model_card(small_model(), "MIT", "insects")
    with pytest.raises(ValueError, match="is not built"):
        hub.model_card(gcvit.GCViT(**SMALL), "Apache-2.0", "insects")
    with pytest.raises(FileNotFoundError):
        hub.model_card(small_model(), "Apache-2.0", "insects", tmp_path)
