"""Amounts of data: held by all ways of training, certified, saved, and refused where they must."""
import math
import warnings
from functools import partial

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal
from torch.distributions import Normal

from mae_nb.aggregate import RecentCodes, certify_on
from mae_nb.all import Hold, categorical_mae, fit, load, ready_mae, sweep
from mae_nb.context import seeded
from mae_nb.control import Spread

TEN = torch.arange(10)
PRIOR = Independent(Normal(torch.zeros(2), 1.), 1)


def quiet(run, *args, **how):
    "A call whose warnings do not matter here."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(*args, **how)


def rows(seed, n=200):
    "Rows of three columns, two of which go together."
    with seeded(seed):
        x = torch.randn(n, 3)
        return torch.cat([x[:, :2], x[:, :1] + .3*x[:, 2:]], 1)


@pytest.mark.parametrize("of", ["data", "rate"])
def test_a_run_that_is_interrupted_ends_as_one_that_is_not(of, tmp_path):
    def model():
        with seeded(0): return ready_mae(3, 1., of=of, width=8)
    def stopped(look): raise KeyboardInterrupt
    short = partial(quiet, fit, data=rows(0), steps=60, every=20, progress=False, validation=None)
    whole, part = model(), model()
    short(whole)
    with pytest.raises(KeyboardInterrupt): short(part, checkpoint=tmp_path, callbacks=[stopped])
    again = model()
    short(again, checkpoint=tmp_path)
    for a, b in zip(whole.state_dict().values(), again.state_dict().values()):
        assert torch.equal(a, b)


@pytest.mark.parametrize("of", ["data", "rate"])
def test_a_loop_of_ones_own_holds_what_fit_holds(of):
    with seeded(0): mae = categorical_mae(1., of=of, width=16)
    hold = Hold(mae, steps=600)
    optimiser = torch.optim.Adam(mae.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 600)
    x = TEN.repeat(20)
    for _ in range(600):
        optimiser.zero_grad()
        hold(mae(x)).backward()
        optimiser.step()
        schedule.step()
    assert abs(mae.certificate(.1, data=TEN).interval.middle - 1) < .08


def test_many_models_as_one_remember_each_their_own():
    runs = quiet(sweep, lambda M: categorical_mae(M, of="data", width=16), [.5, 1.], steps=400,
                 data=TEN.repeat(20), batch_size=100, progress=False)
    for run in runs:
        assert abs(run.mae.certificate(.1, data=TEN).interval.middle - run.target) < .1
    assert not torch.equal(runs[0].mae.recent.mean, runs[1].mae.recent.mean)


@pytest.mark.parametrize("of", ["data", "rate"])
def test_what_is_saved_keeps_amount_and_certificate(of, tmp_path):
    with seeded(0): mae = ready_mae(3, 1., of=of, width=8)
    quiet(fit, mae, rows(0), steps=30, progress=False)
    found = mae.certificate(9., data=rows(0))
    mae.save(tmp_path)
    again = load(tmp_path)
    assert (again.of, again.certified[0]) == (of, found)
    with pytest.raises(ValueError, match="make got .*of='model'"):
        load(tmp_path, lambda M: ready_mae(3, M, width=8))


def test_a_certificate_is_of_the_data_that_it_is_given():
    with seeded(0): mae = ready_mae(3, 1., of="data", width=8)
    few, many = (mae.certificate(9., data=rows(1, n)).interval for n in (2, 400))
    assert few.upper95 <= math.log(2) + .01 and few.middle <= many.middle + .05


LAWS = {
    "normal": Independent(Normal(torch.randn(30, 2), torch.rand(30, 2) + .2), 1),
    "mixture": MixtureSameFamily(Categorical(torch.ones(30, 3)), Independent(
        Normal(torch.randn(30, 3, 2), torch.rand(30, 3, 2) + .2), 1)),
    "full covariance": MultivariateNormal(torch.randn(30, 2), torch.diag_embed(
        torch.rand(30, 2) + .2) + .1)}


@pytest.mark.parametrize("name", LAWS)
def test_the_information_of_any_law_is_that_of_all_pairs(name):
    n = 40_000
    with seeded(0):
        i = torch.randint(30, (n,))
        law = chosen(name, i)
        z = law.sample()
        all_pairs = torch.stack([chosen(name, torch.full((n,), j)).log_prob(z) for j in range(30)])
        terms = law.log_prob(z) - all_pairs.logsumexp(0) + math.log(30)
    found = certify_on(torch.arange(30), lambda i: chosen(name, i), PRIOR, "data", None, .02)
    gap = found.interval.middle - terms.mean().item()
    assert abs(gap) < 4*math.hypot(found.interval.stderr, terms.std().item()/n**.5)


def chosen(name, i):
    "The laws of some data."
    q = LAWS[name]
    if name == "normal": return Independent(Normal(q.mean[i], q.stddev[i]), 1)
    if name == "full covariance": return MultivariateNormal(q.loc[i], scale_tril=q.scale_tril[i])
    one = q.component_distribution.base_dist
    return MixtureSameFamily(Categorical(torch.ones(len(i), 3)),
                             Independent(Normal(one.loc[i], one.scale[i]), 1))


@pytest.mark.parametrize("sd", [1e-3, .1, 1., 30.])
def test_what_is_remembered_is_finite_for_sharp_and_wide_codes(sd):
    recent = RecentCodes(64, 2)
    for step in range(3):
        with seeded(step): mean = torch.randn(32, 2, requires_grad=True)
        z = mean + sd*torch.randn(32, 2)
        value = recent(Independent(Normal(mean, torch.full_like(mean, sd)), 1), z)
        slope, = torch.autograd.grad(value, mean)
        assert value.isfinite() and slope.isfinite().all()


def test_what_cannot_be_held_is_refused():
    with pytest.raises(ValueError, match="of got 'z'"): categorical_mae(1., of="z")
    with pytest.raises(ValueError, match="control got"): categorical_mae(1., of="rate",
                                                                         control=Spread())
    with pytest.raises(ValueError, match="target got 3"): categorical_mae(3., of="data")
    assert categorical_mae(3., of="rate").target == 3
    with pytest.raises(ValueError, match="data got no data"):
        certify_on(TEN[:0], lambda x: x, PRIOR, "rate", 1.)
