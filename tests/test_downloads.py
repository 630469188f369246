"""Checkpoints are fetched whole, or not at all."""

import hashlib
import signal
import socket
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import keras
import pytest
from checkpoint_files import (
    ONE_MODEL,
    with_damaged_config,
    with_damaged_directory,
    write,
)
from helpers import same_weights

from gcvit import downloads, from_pretrained
from gcvit.variants import BYTES, ROWS, VARIANTS, checkpoint_address

# === A mirror on this machine ===


def whole(handler, content):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def too_short(handler, content):
    """Announce all of it, send half, and end politely."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def cut(handler, content):
    """Send half, then reset the connection."""
    too_short(handler, content)
    handler.wfile.flush()
    linger = struct.pack("ii", 1, 0)  # close() resets, and sends nothing
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def cut_chunks(handler, content):
    """Send half as a chunk that is not the last, and end."""
    half = content[: len(content) // 2]
    handler.wfile.write(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(half), half))


def half(handler, content):
    """Send half as if it were all, as a proxy does that was cut."""
    whole(handler, content[: len(content) // 2])


def half_without_length(handler, content):
    """Send half without saying how much there is."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def damaged(handler, content):
    """Send one byte in the middle wrong."""
    middle = len(content) // 2
    byte = bytes([content[middle] ^ 1])
    whole(handler, content[:middle] + byte + content[middle + 1 :])


def missing(handler, content):
    handler.send_error(404)


def page(handler, content):
    """Send the page that asks to sign in."""
    whole(handler, b"<!DOCTYPE html><html>Sign in</html>")


def hang(handler, content):
    """Answer late: patience would be rewarded, after 20 seconds."""
    if not handler.server.finished.wait(20):
        whole(handler, content)


def hang_midway(handler, content):
    too_short(handler, content)
    handler.wfile.flush()
    handler.server.sent_half.set()
    if not handler.server.finished.wait(20):
        handler.wfile.write(content[len(content) // 2 :])


def redirect(handler, content):
    """Send elsewhere, where it is."""
    if handler.path.startswith("/elsewhere/"):
        return whole(handler, content)
    handler.send_response(302)
    handler.send_header("Location", f"/elsewhere{handler.path}")
    handler.end_headers()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.files[self.path.rsplit("/", 1)[1]]
        self.server.answer(self, content)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def published(reference, stored, tmp_path_factory):
    """A file of the small model from each source: its name and content."""
    folder = tmp_path_factory.mktemp("published")
    # Their content tells what they are, so that no test here needs PyTorch.
    forms = {"nvidia": "nvidia-safetensors", "timm": "timm-safetensors"}
    files = {"keras.io": ("gcvitxxtiny.keras", stored.checkpoint.read_bytes())}
    for source, form in forms.items():
        content = write(stored, form, folder).read_bytes()
        digits = hashlib.sha256(content).hexdigest()[:8]
        name = {
            "nvidia": "gcvit_1k_xxtiny.pth.tar",
            "timm": f"gcvit_xxtiny_224_nvidia-{digits}.pth",
        }[source]
        files[source] = (name, content)
    return files


@pytest.fixture
def site(published, stored, tmp_path, monkeypatch):
    """A mirror on this machine; the small model plays XXTiny.

    `answer` is how it answers, `requests` what it was asked for, and `cache`
    the folder in which downloads are kept.
    """
    timm_name, _ = published["timm"]
    keras_name, keras_content = published["keras.io"]
    address = f"https://example.org/weights/{timm_name}"
    monkeypatch.setitem(VARIANTS, "xxtiny", stored.config)
    monkeypatch.setitem(ROWS["xxtiny"].addresses, "timm", address)
    monkeypatch.setitem(BYTES, keras_name, len(keras_content))
    monkeypatch.setattr(downloads, "TIMEOUT", 0.5)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(77)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files = dict(published.values())
    server.requests = []
    server.answer = whole
    server.finished, server.sent_half = threading.Event(), threading.Event()
    server.cache = tmp_path / "keras" / "gcvit"
    server.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("GCVIT_WEIGHTS", server.address)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.finished.set()
    server.shutdown()
    server.server_close()
    thread.join()
    assert socket.getdefaulttimeout() == 77
    socket.setdefaulttimeout(before)


def assert_a_whole_site_helps(site, source, model):
    """The next call fetches the file, if the site is in order again."""
    site.answer = whole
    site.requests.clear()
    assert same_weights(from_pretrained("xxtiny", source=source), model)
    assert len(site.requests) == 1


SOURCES = pytest.mark.parametrize("source", ["keras.io", "nvidia", "timm"])


@ONE_MODEL
@SOURCES
@pytest.mark.parametrize("answer", [whole, redirect])
def test_a_file_is_fetched_once(answer, source, site, published, stored):
    site.answer = answer
    name, content = published[source]
    model = from_pretrained("xxtiny", source=source)
    assert same_weights(model, stored.model)
    assert site.requests[0] == f"/{name}"
    assert [path.name for path in site.cache.iterdir()] == [name]
    assert (site.cache / name).read_bytes() == content
    site.requests.clear()
    model = from_pretrained("xxtiny", source=source)
    assert same_weights(model, stored.model)
    assert site.requests == []


@ONE_MODEL
@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("nvidia", too_short),
        ("nvidia", cut),
        ("nvidia", cut_chunks),
        ("nvidia", missing),
        ("nvidia", hang),
        ("nvidia", hang_midway),
        ("keras.io", half),
        ("keras.io", page),
        ("timm", half_without_length),
        ("timm", damaged),
    ],
)
def test_a_failed_download_leaves_nothing(
    source, answer, site, published, stored
):
    site.answer = answer
    name, _ = published[source]
    with pytest.raises((OSError, ValueError)) as error:
        from_pretrained("xxtiny", source=source)
    assert len(site.requests) == 1
    assert list(site.cache.iterdir()) == []
    place = str(site.cache / name)
    for help in (f"{site.address}/{name}", place, "GCVIT_WEIGHTS", '"nano"'):
        assert help in str(error.value)
    assert socket.getdefaulttimeout() == 77
    assert_a_whole_site_helps(site, source, stored.model)


@ONE_MODEL
@pytest.mark.parametrize("answer", [half, half_without_length, page])
def test_what_no_publisher_vouches_for_is_read_first(answer, site, stored):
    # NVIDIA publishes no size and no hash: only reading tells.
    site.answer = answer
    with pytest.raises(ValueError, match="gcvit_1k_xxtiny.*was deleted"):
        from_pretrained("xxtiny", source="nvidia")
    assert list(site.cache.iterdir()) == []
    assert_a_whole_site_helps(site, "nvidia", stored.model)


@ONE_MODEL
def test_nothing_listens(site, stored, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("GCVIT_WEIGHTS", address)
        with pytest.raises(OSError) as error:
            from_pretrained("xxtiny")
    place = str(site.cache / "gcvitxxtiny.keras")
    for help in (f"{address}/gcvit", place, "GCVIT_WEIGHTS", '"nano"'):
        assert help in str(error.value)
    assert list(site.cache.iterdir()) == []
    monkeypatch.setenv("GCVIT_WEIGHTS", site.address)
    assert_a_whole_site_helps(site, "keras.io", stored.model)


@ONE_MODEL
def test_a_killed_download_is_not_taken_for_the_file(site, stored):
    site.answer = hang_midway
    code = (
        "from gcvit import downloads, variants\n"
        "downloads.find(variants.checkpoint_address('xxtiny', 'nvidia'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        assert site.sent_half.wait(timeout=300)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (site.cache / "gcvit_1k_xxtiny.pth.tar").exists()
    assert_a_whole_site_helps(site, "nvidia", stored.model)


@ONE_MODEL
@SOURCES
def test_a_damaged_file_in_the_cache_is_deleted(
    source, site, published, stored
):
    name, content = published[source]
    site.cache.mkdir(parents=True)
    path = site.cache / name
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is truncated.*was deleted") as error:
        from_pretrained("xxtiny", source=source)
    assert str(path) in str(error.value)
    assert not path.exists()
    assert site.requests == []
    assert_a_whole_site_helps(site, source, stored.model)


@ONE_MODEL
@pytest.mark.parametrize(
    "damage", [with_damaged_config, with_damaged_directory]
)
def test_damage_of_the_right_length_is_deleted(
    damage, site, published, stored
):
    site.cache.mkdir(parents=True)
    path = site.cache / published["keras.io"][0]
    path.write_bytes(damage(published["keras.io"][1]))
    with pytest.raises(ValueError, match="corrupted.*was deleted"):
        from_pretrained("xxtiny")
    assert_a_whole_site_helps(site, "keras.io", stored.model)


@ONE_MODEL
def test_your_own_damaged_file_is_not_deleted(
    site, published, tmp_path, monkeypatch
):
    name, content = published["keras.io"]
    path = tmp_path / name
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is truncated") as error:
        from_pretrained("xxtiny", weights_path=path)
    assert "was deleted" not in str(error.value)
    monkeypatch.setenv("GCVIT_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match="is truncated") as error:
        from_pretrained("xxtiny")
    assert "was deleted" not in str(error.value)
    assert path.read_bytes() == content[: len(content) // 2]
    assert site.requests == []


@ONE_MODEL
def test_a_file_is_not_deleted_for_a_package_that_is_absent(
    site, stored, monkeypatch
):
    from_pretrained("xxtiny", source="nvidia")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "safetensors", None)
        with pytest.raises(ImportError):
            from_pretrained("xxtiny", source="nvidia")
    assert len(list(site.cache.iterdir())) == 1


def no_network(*arguments, **options):
    raise AssertionError("the network was asked")


@ONE_MODEL
@SOURCES
def test_a_folder_takes_the_place_of_the_network(
    source, site, published, stored, tmp_path, monkeypatch
):
    name, content = published[source]
    monkeypatch.setenv("GCVIT_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(keras.utils, "get_file", no_network)
    with pytest.raises(FileNotFoundError) as error:
        from_pretrained("xxtiny", source=source)
    address = ROWS["xxtiny"].addresses[source]
    for help in (address, str(tmp_path / name), "GCVIT_WEIGHTS", '"nano"'):
        assert help in str(error.value)
    (tmp_path / name).write_bytes(content)
    model = from_pretrained("xxtiny", source=source)
    assert same_weights(model, stored.model)


@ONE_MODEL
def test_the_cache_as_your_own_folder_is_your_own(
    site, published, monkeypatch
):
    name, content = published["keras.io"]
    site.cache.mkdir(parents=True)
    monkeypatch.setenv("GCVIT_WEIGHTS", str(site.cache))
    with pytest.raises(FileNotFoundError):
        from_pretrained("xxtiny")
    (site.cache / name).write_bytes(content[:-1])
    with pytest.raises(ValueError, match="is truncated"):
        from_pretrained("xxtiny")
    assert (site.cache / name).read_bytes() == content[:-1]
    assert site.requests == []


@pytest.mark.parametrize("variant", ["xxtiny", "large_21k_512"])
def test_without_settings_the_publisher_is_asked(
    variant, tmp_path, monkeypatch
):
    asked = []

    def get_file(name, address, **options):
        asked.append((name, address))
        raise OSError("refused")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.delenv("GCVIT_WEIGHTS", raising=False)
    with pytest.raises(OSError) as error:
        from_pretrained(variant)
    address = next(iter(ROWS[variant].addresses.values()))
    name = address.rsplit("/", 1)[1]
    assert asked == [(name, address)]
    assert str(tmp_path / ".keras" / "gcvit" / name) in str(error.value)


def test_the_wait_is_half_a_minute():
    assert downloads.TIMEOUT == 30


def test_folders_can_start_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", "~/keras")
    assert downloads.cache_folder() == tmp_path / "keras" / "gcvit"
    monkeypatch.setenv("GCVIT_WEIGHTS", "~/weights")
    assert downloads.weights_folder() == tmp_path / "weights"
    path = tmp_path / "weights" / "gcvitxxtiny.keras"
    path.parent.mkdir()
    path.touch()
    assert downloads.find(checkpoint_address("xxtiny")) == path
