"""What each process has of the pictures: together it is all of them, once."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the pipelines are tf.data's")

from gcvit import examples, pipelines, processes, shares
from gcvit.examples import Example


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [0, 1, 5, 16, 29])
def test_shares_add_up_to_the_pictures(parts, count, monkeypatch):
    monkeypatch.setattr(shares, "parts", lambda: parts)
    several = min(parts, 2)
    monkeypatch.setattr(processes, "count", lambda: several)
    weighed = np.zeros(count)
    sizes = []
    for rank in range(several):
        monkeypatch.setattr(processes, "rank", lambda: rank)
        places, weights = shares.share_of(count, 16)
        assert (weights is None) == (count % 16 % parts == 0)
        sizes.append(len(places))
        weights = np.ones(len(places)) if weights is None else weights
        np.add.at(weighed, places, weights)
    assert len(set(sizes)) == 1 and sum(sizes) % parts == 0
    # The mean over all rows of a batch is that over its pictures.
    last = sum(sizes) - count // 16 * 16
    np.testing.assert_allclose(weighed[: count // 16 * 16], 1)
    np.testing.assert_allclose(
        weighed[count // 16 * 16 :] * (count % 16), last, rtol=1e-6
    )


def test_what_another_process_has_read_is_decoded_once(monkeypatch):
    drawing = np.full((40, 30, 3), 90, "uint8")
    found = [Example(None, i % 2) for i in range(4)]
    decoded = []

    def decode(picture, shorter_side):
        decoded.append(picture)
        return drawing

    options = 2, (32, 32), 2, 0, decode
    train = pipelines.train_batches(found, *options)
    assert len([*train, *train]) == 4 and len(decoded) == 4
    monkeypatch.setattr(examples, "CACHE_BYTES", 2 * drawing.nbytes)
    train = pipelines.train_batches(found, *options)
    assert len([*train, *train]) == 4 and len(decoded) == 4 + 6
