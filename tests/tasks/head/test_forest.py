"""The forest is scikit-learn's on scikit-image's features, with points in and probabilities out as of a head."""

import sys

import numpy as np
import pytest
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.data.points_table import PointTable
from lamella.tasks.head.forest import Forest, ForestConfig

PLAIN = {"kind": "factor", "factor": 1.0}
SMALL = {"trees": 12, "sigma_max": 2.8, "normaliser": PLAIN}


def specimen(space, seed):
    rng = np.random.default_rng(seed)
    image = np.zeros(space)
    image[..., 8:24, 8:24] = 1
    return image + 0.3 * rng.normal(size=space)


def points(names, space, num=40, num_classes=2):
    rng = np.random.default_rng(5)
    places = np.stack([rng.integers(0, n, num) for n in (1, *space)[-3:]], 1).astype(float)
    inside = (places[:, -2:] >= 8).all(1) & (places[:, -2:] < 24).all(1)
    chosen = tuple(names[k % len(names)] for k in range(num))
    return PointTable(chosen, places, inside.astype(np.int64) * (num_classes - 1), len(space) == 3)


def test_it_is_the_forest_of_scikit_learn():
    images = {name: specimen((32, 32), k) for k, name in enumerate("ab")}
    table = points("ab", (32, 32))
    forest = ForestConfig.load(SMALL).build().fit(images, table)
    features = {
        n: multiscale_basic_features(image[None].astype(np.float32), sigma_min=0.7, sigma_max=2.8, channel_axis=0)
        for n, image in images.items()
    }
    order = np.concatenate([table.of("a"), table.of("b")])
    rows = np.stack([features[table.images[k]][tuple(table.places[k, 1:].astype(int))] for k in order])
    seed = int(stream(0, "forest").integers(2**31))
    direct = RandomForestClassifier(12, random_state=seed).fit(rows, table.classes[order])
    told = direct.predict_proba(features["b"].reshape(-1, rows.shape[1])).T.reshape(2, 32, 32)
    np.testing.assert_allclose(forest.maps(images["b"])["classes"], told, atol=1e-6)


@pytest.mark.parametrize(
    ("ndim", "space"), [(2, (32, 32)), (2, (3, 32, 32)), (3, (6, 32, 32))], ids=["2D", "stack", "3D"]
)
def test_classes_that_are_learnt_and_those_that_are_not(ndim, space):
    image = specimen(space, 3)
    table = points("a", space, 60, num_classes=3)  # classes 0 and 2
    found = ForestConfig.load({**SMALL, "ndim": ndim}).build(3).fit({"a": image}, table).maps(image)["classes"]
    assert found.shape == (3, *space)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    assert (found[1] == 0).all()
    truth = np.zeros(space)
    truth[..., 8:24, 8:24] = 2
    assert (found.argmax(0) == truth).mean() > 0.85


def test_mistakes_are_named(monkeypatch):
    image = specimen((32, 32), 0)
    forest = Forest(ForestConfig.load(SMALL))
    with pytest.raises(UserError, match="call fit with images and points"):
        forest.maps(image)
    table = points("a", (32, 32))
    with pytest.raises(UserError, match="the sources do not have"):
        forest.fit({"b": image}, table)
    with pytest.raises(UserError, match="lie outside their image"):
        forest.fit({"a": image[:16]}, table)
    with pytest.raises(UserError, match="are of class 0; add points of another"):
        forest.fit({"a": image}, table.taken(np.flatnonzero(table.classes == 0)))
    with pytest.raises(UserError, match="must have the axes"):
        forest.fit({"a": image}, table).maps(image[0])
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(UserError, match=r"install lamella\[forest\]"):
        forest.fit({"a": image}, table)
