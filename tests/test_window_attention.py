"""Window attention: its scores against NumPy, and what it refuses."""

import keras
import numpy as np
import pytest
from cases import GLOBAL, LOCAL
from helpers import numpy, random_arrays, randomize

import gcvit


def test_attention_scores():
    """Against a few lines of NumPy, in a window that is not square."""
    windows, query = random_arrays((6, 8, 8), (2, 2, 4, 8))
    layer = gcvit.WindowAttention(**GLOBAL, qk_scale=0.3)
    layer.build((6, 8, 8), (2, 2, 4, 8))
    randomize(layer)
    answer, scores = layer(windows, query, return_attention_scores=True)
    np.testing.assert_array_equal(numpy(answer), numpy(layer(windows, query)))

    table = numpy(layer.relative_position_bias_table).reshape(3, 7, 2)
    places = [(row, column) for row in range(2) for column in range(4)]
    bias = np.array(
        [
            [table[r1 - r2 + 1, c1 - c2 + 3] for r2, c2 in places]
            for r1, c1 in places
        ]
    )  # (N, N, heads)
    keys_values = windows @ numpy(layer.qkv.kernel) + numpy(layer.qkv.bias)
    keys, values = keys_values[..., :8], keys_values[..., 8:]
    # Three windows an image: each of them gets its own image's query.
    queries = np.repeat(query.reshape(2, 8, 8), 3, axis=0)
    heads = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        logits = 0.3 * queries[..., part] @ keys[..., part].swapaxes(1, 2)
        weights = np.exp(logits + bias[..., head])
        weights /= weights.sum(-1, keepdims=True)
        np.testing.assert_allclose(
            numpy(scores)[:, head], weights, rtol=1e-4, atol=1e-6
        )
        heads.append(weights @ values[..., part])
    expected = np.concatenate(heads, -1) @ numpy(layer.proj.kernel)
    np.testing.assert_allclose(
        numpy(answer), expected + numpy(layer.proj.bias), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("arguments", [LOCAL, GLOBAL])
def test_attention_scores_of_symbolic_inputs(arguments):
    inputs = [keras.Input((8, 8)), keras.Input((2, 4, 8))]
    if not arguments["global_query"]:
        inputs.pop()
    layer = gcvit.WindowAttention(**arguments)
    answer, scores = layer(*inputs, return_attention_scores=True)
    assert answer.shape == (None, 8, 8)
    assert scores.shape == (None, 2, 8, 8)
    model = keras.Model(inputs, [answer, scores])
    answer, scores = model(random_arrays(*[(2, *x.shape[1:]) for x in inputs]))
    assert tuple(answer.shape) == (2, 8, 8)
    assert tuple(scores.shape) == (2, 2, 8, 8)


def test_windows_must_have_their_tokens():
    with pytest.raises(ValueError, match="4 tokens.*5"):
        gcvit.WindowAttention(2, 1, False).build((None, 5, 8))


@pytest.mark.parametrize(
    ("arguments", "query"), [(LOCAL, [(2, 2, 4, 8)]), (GLOBAL, [])]
)
def test_a_query_just_where_it_is_wanted(arguments, query):
    layer = gcvit.WindowAttention(**arguments)
    wants = "needs" if arguments["global_query"] else "takes no"
    with pytest.raises(ValueError, match=f"{wants} q_global"):
        layer(*random_arrays((6, 8, 8), *query))
