"Tests of the estimator beyond its page: each fails when one line of it is wrong."
import importlib
import math
import pickle
import sys
import warnings

import numpy as np
import pytest
import torch
from mae_nb.estimator import MutualCodes
from mae_nb.loading import load
from sklearn.exceptions import ConvergenceWarning, NotFittedError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def table(n: int = 300) -> np.ndarray:
    "Three columns with one cause, far from zero and of different units."
    noise = np.random.RandomState(0).randn(n, 4)
    return np.array([5., -40., 100.]) + np.array([.5, 20., 3.])*(noise[:, :1] + .5*noise[:, 1:])


def quick(**kwargs) -> MutualCodes:
    "An estimator that trains in a moment."
    return MutualCodes(**{"steps": 3, "width": 8} | kwargs)


@pytest.fixture(scope="module")
def held() -> MutualCodes:
    "A model that has converged well enough."
    return MutualCodes(target=.7, steps=250, tol=.1, width=16).fit(table())


def test_fit(held):
    assert (held.certificate_.held and held.mae_.target == .7 and len(held.history_) == 250
            and held.n_features_in_ == 3)
    assert (held.mae_.certified[0] is held.certificate_
            and held.mae_.certified[1] == held.mae_.fingerprint())


def test_score_is_in_the_units_of_the_data(held):
    "A column times ten spreads the density over ten times as much."
    X, wide = table(), table()*[1., 10., 1.]
    a, b = (quick(steps=20).fit(x).score(x) for x in (X, wide))
    assert abs(a - b - math.log(10)) < .01
    covariance = np.cov(X.T)
    # of a normal distribution
    best = -.5*(3*math.log(2*math.pi*math.e) + np.linalg.slogdet(covariance)[1])
    assert best - .6 < held.score(X) < best + .1


def test_score_is_a_function_of_the_row(held):
    X = table()
    each = held.score_samples(X)
    np.testing.assert_allclose(held.score_samples(X[::-1][5:12]), each[::-1][5:12], rtol=1e-12)
    np.testing.assert_allclose(held.score(X), each.mean())


def test_codes_and_means(held):
    X = table()
    codes = held.transform(X)
    assert codes.shape == (300, 2) and codes.dtype == np.float64
    assert held.transform(X.astype(np.float32)).dtype == np.float32
    back = held.inverse_transform(codes)
    assert back.shape == X.shape and ((back - X).var(0) < .6*X.var(0)).all()
    assert held.inverse_transform(codes.astype(np.float32)).dtype == np.float32
    with pytest.raises(ValueError, match="X got 3 columns, but takes 2"): held.inverse_transform(X)


def test_samples(held):
    X, drawn = table(), held.sample(4000, random_state=1)
    assert (np.abs(drawn.mean(0) - X.mean(0)) < .3*X.std(0)).all()
    assert (np.abs(np.log(drawn.std(0)/X.std(0))) < .25).all()
    np.testing.assert_array_equal(held.sample(3, random_state=1), held.sample(3, random_state=1))
    assert (held.sample(3) != held.sample(3)).any()


def test_pickle(held):
    again = pickle.loads(pickle.dumps(held))
    np.testing.assert_array_equal(again.transform(table()), held.transform(table()))
    assert again.score(table()) == held.score(table()) and again.certificate_ == held.certificate_


def test_save_of_targets_from_numpy(tmp_path):
    "What a grid hands over as NumPy's numbers, a saved model holds as Python's."
    est = quick(target=np.float32(.5), latents=np.int64(3), width=np.int64(8)).fit(table())
    est.mae_.save(tmp_path)
    again = load(tmp_path)
    assert again.target == .5
    np.testing.assert_array_equal(again.encode(table()).mean.detach().numpy(),
                                  est.transform(table()))


def test_random_state():
    X = table()
    def codes(state): return quick(random_state=state).fit(X).transform(X)
    np.testing.assert_array_equal(codes(0), codes(0))
    assert (codes(0) != codes(1)).any()
    state = np.random.RandomState(0)
    first, second = codes(state), codes(state)
    assert (first != second).any()
    np.testing.assert_array_equal(first, codes(np.random.RandomState(0)))
    assert (codes(None) != codes(None)).any()


def test_refit():
    "A second fit forgets the first, and what is outside is left as it was."
    est, before = quick(latents=3), torch.get_rng_state()
    est.fit(table()[:, :2]).fit(table())
    np.testing.assert_array_equal(est.transform(table()),
                                  quick(latents=3).fit(table()).transform(table()))
    assert torch.equal(before, torch.get_rng_state())
    assert list(est.get_feature_names_out()) == ["mutualcodes0", "mutualcodes1", "mutualcodes2"]


def test_warns_once_where_the_target_is_missed():
    with pytest.warns(ConvergenceWarning, match="asked 1 ± 0.05 nats: not held") as seen:
        quick().fit(table())
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quick(target=None).fit(table()).certificate_.why == "no target"


def test_constant_columns():
    X = np.column_stack([table(), np.full(300, .1)])
    with pytest.warns(UserWarning, match="column 3: constant"): est = quick().fit(X)
    assert (np.isfinite(est.transform(X)).all() and np.isfinite(est.score(X))
            and est.mae_.decoder[1].scale[3] == 1)


@pytest.mark.parametrize("likelihood, levels",
                         [("bernoulli", None), ("categorical", 4), ("rounded", 4), ("logistics", 4),
                          (["normal", "bernoulli", 4], None)])
def test_likelihoods(likelihood, levels):
    draw = np.random.RandomState(0)
    X = draw.randint(0, 2 if likelihood == "bernoulli" else 4, (50, 3)).astype(float)
    if isinstance(likelihood, list): X[:, 1] = X[:, 1] > 1
    est = quick(likelihood=likelihood, levels=levels, target=.5).fit(X)
    codes = est.transform(X)
    assert codes.shape == (50, 2) and np.isfinite(est.score(X))
    assert est.sample(4, random_state=0).shape == (4, 3)
    assert np.isfinite(est.inverse_transform(codes)).all()
    if likelihood in ("categorical", "rounded", "logistics"):
        with pytest.raises(ValueError, match="X got values that are not whole"):
            est.transform(X + .5)


@pytest.mark.parametrize("wrong, message", [
    (dict(target=-1.), "target got -1.0"), (dict(likelihood="poisson"), "likelihood got 'poisson'"),
    (dict(latents=0), "latents got 0"),
    (dict(steps=0), "steps got 0"), (dict(tol=0.), "tol got 0.0"),
    (dict(likelihood="categorical"), "levels got None")])
def test_wrong_arguments_are_refused_at_fit(wrong, message):
    est = quick(**wrong)
    X = np.random.RandomState(0).randint(0, 2, (20, 3))
    with pytest.raises(ValueError, match=message): est.fit(X)
    with pytest.raises(NotFittedError): est.inverse_transform([[0., 0.]])


def test_missing_extra(monkeypatch):
    "Without scikit-learn, the import says what to install."
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "mae_nb.estimator")
    with pytest.raises(ImportError,
                       match=r"MutualCodes needs sklearn, which is an extra: pip install "
                             r"'mae_nb\[sklearn\]'"):
        importlib.import_module("mae_nb.estimator")
