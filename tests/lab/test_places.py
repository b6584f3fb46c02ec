# SPDX-License-Identifier: Apache-2.0
"""Networks per place: what they see, and that they learn."""

import numpy as np
import pytest

from tokendraw.lab.training import NetworkSettings, train_sequences

torch = pytest.importorskip("torch", reason="torch is not installed")

from tokendraw.lab.places import GivenNetwork, PlaceNetworks  # noqa: E402

VOCAB, WINDOW = 3, 5


def logits_of(network, tokens: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(tokens[:, np.newaxis]), None)[0][:, 0].numpy()


def changed(network, place: int) -> list[int]:
    """Return the places whose prediction depends on the symbol at a place."""
    tokens = np.zeros(WINDOW, dtype=np.int64)
    other = tokens.copy()
    other[place] = 2
    differs = (logits_of(network, tokens) != logits_of(network, other)).any(axis=1)
    return np.flatnonzero(differs).tolist()


def settings(given: int) -> NetworkSettings:
    return NetworkSettings(units=16, window=WINDOW, given=given)


def test_a_place_sees_all_earlier_symbols_and_no_later_one():
    torch.manual_seed(0)
    network = PlaceNetworks(VOCAB, settings(given=1))
    assert [changed(network, place) for place in range(WINDOW)] == [
        list(range(place, WINDOW)) for place in range(WINDOW)
    ]


def test_places_that_are_given_have_even_odds():
    torch.manual_seed(0)
    network = PlaceNetworks(VOCAB, settings(given=3))
    assert changed(network, 0) == [2, 3, 4]
    assert not logits_of(network, np.array([0, 1, 2, 0, 1]))[:2].any()


def test_the_given_network_sees_the_given_symbols_only():
    torch.manual_seed(0)
    network = GivenNetwork(VOCAB, settings(given=3))
    assert [changed(network, place) for place in range(WINDOW)] == [[2, 3, 4]] * 3 + [[], []]
    assert not logits_of(network, np.array([0, 1, 2, 0, 1]))[:2].any()


@pytest.mark.parametrize("architecture", ["given", "places"])
def test_three_bits_are_copied_and_nothing_else_is_learned(architecture):
    """The copy is learned to 0; where the second half is other bits, the loss stays at one bit each."""
    bits = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T
    random = np.random.default_rng(0)

    def losses(second) -> np.ndarray:
        def draw(rows: int) -> np.ndarray:
            first = bits[random.integers(8, size=rows)]
            return np.concatenate([first, second(first)], axis=1)

        network = NetworkSettings(architecture=architecture, units=32, learning_rate=1e-2, given=3)
        *_, last = train_sequences(
            lambda step: draw(32), draw(256), 2, network, steps=60, every=60, counted=np.arange(5) >= 2
        )
        return last.losses[:, 2:].mean(axis=0) / np.log(2)

    assert losses(lambda first: first).max() < 0.05
    assert losses(lambda first: random.integers(0, 2, first.shape)).min() > 0.8
