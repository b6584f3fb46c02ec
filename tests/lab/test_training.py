# SPDX-License-Identifier: Apache-2.0
"""The trainer that experiments share."""

import itertools
import math

import numpy as np
import pytest

from tokendraw.lab.training import NetworkSettings, make_trainer, train_sequences

pytest.importorskip("torch", reason="training needs torch, which is not installed")

SMALL = {"width": 16, "units": 32, "layers": 2, "heads": 2, "lanes": 3, "window": 12}
ARCHITECTURES = ["gru", "transformer"]


def copies(step, rows=16):
    """Return sequences of a first symbol and three random ones, twice."""
    symbols = np.random.default_rng(step).integers(0, 4, (rows, 3))
    return np.concatenate([np.full((rows, 1), 4), symbols, symbols], axis=1)


def batch_of(seed, settings):
    random = np.random.default_rng(seed)
    return random.integers(0, 10, (settings.window + 1, settings.lanes))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
class TestTrainer:
    def test_a_test_is_the_loss_of_a_step(self, architecture):
        settings = NetworkSettings(architecture=architecture, **SMALL)
        trainer, batch = make_trainer(10, settings), batch_of(1, settings)
        losses, _ = trainer.losses(batch)
        assert losses.shape == (12, 3)
        assert trainer.step(batch) == pytest.approx(losses.mean(), rel=1e-5)
        after, _ = trainer.losses(batch)
        assert after.mean() < losses.mean()

    def test_what_counts(self, architecture):
        settings = NetworkSettings(architecture=architecture, **SMALL)
        trainer, batch = make_trainer(10, settings), batch_of(1, settings)
        counted = np.random.default_rng(2).random((12, 3)) < 0.3
        losses, _ = trainer.losses(batch)
        assert trainer.step(batch, counted) == pytest.approx(losses[counted].mean(), rel=1e-5)

    def test_no_loss_knows_what_comes_later(self, architecture):
        settings = NetworkSettings(architecture=architecture, **SMALL)
        trainer, batch = make_trainer(10, settings), batch_of(1, settings)
        changed = batch.copy()
        changed[7:] = (changed[7:] + 3) % 10
        losses, later = trainer.losses(batch)[0], trainer.losses(changed)[0]
        np.testing.assert_allclose(later[:6], losses[:6], rtol=1e-5)
        assert (np.abs(later[6:] - losses[6:]) > 1e-4).mean() > 0.9

    def test_a_missing_token_has_no_loss_and_changes_no_other(self, architecture):
        settings = NetworkSettings(architecture=architecture, **SMALL)
        trainer, batch = make_trainer(10, settings), batch_of(1, settings)
        short = batch.copy()
        short[9:, 1] = -1
        losses, shorter = trainer.losses(batch)[0], trainer.losses(short)[0]
        assert (shorter[8:, 1] == 0).all()
        np.testing.assert_allclose(shorter[:8], losses[:8], rtol=1e-5)

    def test_the_seed_decides(self, architecture):
        def losses(seed):
            settings = NetworkSettings(architecture=architecture, seed=seed, **SMALL)
            trainer = make_trainer(10, settings)
            return [trainer.step(batch_of(step, settings)) for step in range(3)]

        assert losses(1) == losses(1) != losses(2)

    def test_sequences_are_learned(self, architecture):
        sizes = {**SMALL, "learning_rate": 1e-2}
        settings = NetworkSettings(architecture=architecture, **sizes)
        test = copies(10**6, rows=40)
        points = list(train_sequences(copies, test, 5, settings, steps=220, every=100))
        assert [point.step for point in points] == [0, 100, 200, 220]
        assert all(point.losses.shape == (40, 6) for point in points)
        assert points[0].losses.mean() == pytest.approx(math.log(5), abs=0.3)
        by_place = points[-1].losses.mean(axis=0)
        assert (by_place[:3] > 1.2).all(), "what is random stays unknown"
        assert (by_place[3:] < 0.3).all(), "what is copied is learned"
        assert sorted(point.seconds for point in points) == [point.seconds for point in points]


def test_a_recurrent_network_goes_on_where_it_stopped():
    settings = NetworkSettings(**SMALL)
    trainer, batch = make_trainer(10, settings), batch_of(1, settings)
    whole, _ = trainer.losses(batch)
    first, state = trainer.losses(batch[:6])
    second, _ = trainer.losses(batch[5:], state)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-5)


def test_a_recurrent_network_forgets_when_told():
    def second_loss(forgets):
        settings = NetworkSettings(**SMALL)
        trainer, batch = make_trainer(10, settings), batch_of(1, settings)
        trainer.step(batch)
        if forgets:
            trainer.forget()
        alone = trainer.losses(batch)[0].mean()
        return trainer.step(batch) - alone

    assert second_loss(forgets=True) == pytest.approx(0, abs=1e-5)
    assert abs(second_loss(forgets=False)) > 1e-4


def test_places_that_do_not_count_are_not_learned():
    settings = NetworkSettings(**SMALL, learning_rate=1e-2)
    test = copies(10**6, rows=40)
    counted = np.arange(6) < 3
    *_, last = train_sequences(copies, test, 5, settings, steps=60, every=60, counted=counted)
    assert (last.losses.mean(axis=0)[3:] > 1.2).all()


def test_training_may_be_stopped():
    drawn = []

    def draw(step):
        drawn.append(step)
        return copies(step)

    settings = NetworkSettings(**SMALL)
    points = train_sequences(draw, copies(99), 5, settings, steps=1000, every=2)
    assert [point.step for point in itertools.islice(points, 3)] == [0, 2, 4]
    assert max(drawn) == 3


def test_the_width_is_a_multiple_of_the_heads():
    with pytest.raises(ValueError, match=r"^width must be a multiple of heads \(3\), got 16$"):
        NetworkSettings(architecture="transformer", width=16, heads=3)
    with pytest.raises(ValueError, match=r"^layers must be positive, got 0$"):
        NetworkSettings(architecture="transformer", layers=0)
