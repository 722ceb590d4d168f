"""A session learns from points as they come, and gives what its head gives."""

import numpy as np
import pytest
import torch

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume
from lamella.tasks.head.fit import Standard, fit_head, new_head, probabilities
from lamella.tasks.head.session import SparseSession


def specimen(space=(40, 48), channels=5, seed=0):
    rng = np.random.default_rng(seed)
    embeddings = (3 + 10 * rng.normal(size=(channels, *space))).astype(np.float32)
    return embeddings, (embeddings[0] > embeddings[1]).astype(np.int64)


def begun(space=(40, 48), num=60, **settings):
    embeddings, truth = specimen(space)
    session = SparseSession(embeddings, **settings)
    places = np.stack([np.random.default_rng(1).integers(0, n, num) for n in space], 1)
    session.add(places, truth[tuple(places.T)])
    return session, embeddings, truth


@pytest.mark.parametrize("space", [(40, 48), (4, 20, 24)], ids=["2D", "3D"])
def test_it_learns_and_predicts_what_its_head_gives(space):
    session, embeddings, truth = begun(space)
    session.fit()
    found = session.predict()
    assert found.shape == (2, *space)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    assert (found.argmax(0) == truth).mean() > 0.9
    with torch.no_grad():
        direct = session.head.dense(len(space))(torch.from_numpy(embeddings)[None]).softmax(1)[0]
    np.testing.assert_allclose(found, direct, atol=1e-5)
    part = Box((1,) * len(space), tuple(n - 2 for n in space))
    np.testing.assert_allclose(session.predict(part), found[(slice(None), *part.slices())], atol=1e-6)


def test_a_volume_gives_what_its_array_gives(tmp_path):
    session, embeddings, _ = begun((4, 20, 24))
    meta = Meta.plain("czyx")
    (made,) = create_volume(tmp_path / "e.ome.zarr", box=Box.of(embeddings.shape), dtype="float32", meta=meta)
    made.write(made.box, embeddings)
    other = SparseSession(made)
    other.add(session.points, session.classes)
    session.fit()
    other.fit()
    np.testing.assert_allclose(other.predict(), session.predict(), atol=1e-5)


def test_what_is_not_trusted_has_no_say():
    rng = np.random.default_rng(0)
    learnt, intensity = rng.normal(size=(4, 40, 48)), rng.normal(size=(1, 40, 48))
    embeddings = np.concatenate([learnt, intensity]).astype(np.float32)
    weights = {}
    for trust in (1.0, 0.01):
        session = SparseSession(embeddings, beside=1, trust=trust, hidden=())
        session.add(np.argwhere(np.ones((40, 48)))[::7], (learnt[0] + intensity[0] > 0).ravel()[::7].astype(np.int64))
        session.fit()
        (layer,) = (m for m in session.head.layers if isinstance(m, torch.nn.Linear))
        difference = (layer.weight[1] - layer.weight[0]).detach().abs()
        weights[trust] = float(difference[0] / difference[-1])
    assert 0.8 < weights[1.0] < 1.2  # both tell as much
    assert weights[0.01] < 0.05


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"beside": 6}, "from 0 to 5"), ({"trust": 0.0}, "above 0"), ({"trust": float("nan")}, "above 0")],
)
def test_impossible_trust_is_refused(wrong, told):
    with pytest.raises(UserError, match=told):
        SparseSession(specimen()[0], **wrong)


def test_fits_are_warm_and_repeatable():
    session, _, truth = begun()
    cold = session.fit(steps=5)
    again = session.fit(steps=5)
    assert again < cold  # it goes on
    assert session.fit(steps=5, fresh=True) == cold
    other, _, _ = begun()
    assert other.fit(steps=5) == cold
    assert begun(seed=1)[0].fit(steps=5) != cold
    session.add([[0, 0]], truth[0, 0])
    assert len(session.points) == 61
    session.remove([-1, 0])
    assert len(session.points) == len(session.classes) == 59
    np.testing.assert_array_equal(session.points, other.points[1:])


def test_scale_of_embeddings_changes_nothing():
    embeddings, truth = specimen()
    vectors, classes = embeddings.reshape(5, -1).T[:80], truth.ravel()[:80]
    heads = []
    for factor, shift in ((1.0, 0.0), (50.0, 7.0)):
        standard = Standard.of(vectors * factor + shift)
        head = new_head(5, 2, (8,))
        fit_head(head, vectors * factor + shift, classes, standard)
        heads.append(probabilities(standard.folded(head), embeddings * factor + shift))
    np.testing.assert_allclose(*heads, atol=2e-2)
    constant = Standard.of(np.ones((9, 2), np.float32))
    assert constant.deviation.tolist() == [1, 1]


def test_mistakes_are_named_and_add_nothing():
    session, embeddings, _ = begun()
    for points, classes, message in (
        ([[40, 3]], 0, r"point \[40.0, 3.0\] lies outside the image of \(40, 48\)"),
        ([[47, 3], [2, 1]], 0, "the axes seem to be turned round"),
        ([[3, 4, 5]], 0, r"must be \(number, 2\), with the axes y x"),
        ([[3, 4]], 2, "whole numbers from 0 to 1"),
        ([[3, 4]], [0.5], "whole numbers from 0 to 1"),
        ([[np.nan, 4]], 0, "lies outside"),
    ):
        with pytest.raises(UserError, match=message):
            session.add(points, classes)
    assert len(session.points) == 60
    with pytest.raises(UserError, match="nothing was fitted yet"):
        session.predict()
    with pytest.raises(UserError, match="there are 60, counted from 0"):
        session.remove(60)
    session.remove(np.flatnonzero(session.classes == 1).tolist())
    with pytest.raises(UserError, match="are of class 0; add points of another class"):
        session.fit()
    session.remove(range(len(session.points)))
    with pytest.raises(UserError, match="there are no points"):
        session.fit()
    with pytest.raises(UserError, match="have 4 channels, the head was made for 5"):
        probabilities(new_head(5, 2, (8,)), embeddings[:4])
    with pytest.raises(UserError, match="must have the axes c y x"):
        SparseSession(embeddings[0])
