"Properties of every model at any shape and precision: bounds, sums, round trips, splits, devices."

import itertools
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mae_nb.certificate import Certificate
from mae_nb.context import seeded
from mae_nb.core import with_score
from mae_nb.distributions import Rounded
from mae_nb.heads import (
    LIKELIHOODS, BernoulliHead, CategoricalHead, NormalHead, RoundedHead, TableHead,
)
from mae_nb.infomax import Interval, mutual_information
from mae_nb.loading import load
from mae_nb.models import ready_mae
from mae_nb.oracle import LinearGaussian, exact_information
from torch import nn
from torch.distributions import Categorical, Distribution, Independent, Normal
from torch.testing import assert_close

SEEDS, DTYPES = st.integers(0, 2**31), st.sampled_from([torch.float32, torch.float64])


def some(examples):
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The interval .* is limited by its proposals")
        yield
    torch.set_num_threads(threads)


def inside(found, exact):
    return found.lower - 4*found.stderr - 1e-5 <= exact <= found.upper + 4*found.stderr + 1e-5


@some(20)
@given(st.integers(2, 30), SEEDS)
def test_a_baseline_changes_no_mean(n, seed):
    "A constant reward has no gradient; adding a constant to a reward does not change its gradient."
    with seeded(seed): reward, logits = torch.randn(2, n, dtype=torch.float64)
    logits.requires_grad_()
    def gradient(r): return torch.autograd.grad(with_score(r, logits).sum(), logits)[0]
    assert_close(gradient(torch.ones_like(reward)), torch.zeros_like(reward))
    assert_close(gradient(reward + 3.), gradient(reward))
    assert_close(with_score(reward, logits), reward)
    assert_close(gradient(reward)[0], reward[0] - reward[1:].mean())


@some(40)
@given(st.integers(1, 8), st.integers(1, 6), DTYPES, SEEDS, st.floats(.1, 2.), st.floats(.3, 2.),
       st.sampled_from([None, 1., 1.3]), st.sampled_from([1, 4, 16]))
def test_bounds_enclose_the_information_of_linear_models(d_z, d_x, dtype, seed, size, s, stretch,
                                                         k):
    with seeded(seed): model = LinearGaussian(size*torch.randn(d_x, d_z, dtype=dtype), s)
    proposal = model.prior if stretch is None else lambda x: model.posterior(x, stretch)
    found = mutual_information(model.decoder, model.prior, proposal, k, 400, seed)
    assert inside(found, model.information()) and found.lower <= found.upper
    # the posterior itself: both bounds are exact
    if stretch == 1.: assert found.width < 1e-3*(1 + model.information())


class Softmax(nn.Module):
    "Categories whose logits bend with the code."
    def __init__(self, n, size):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, n))
        self.size = size
    def forward(self, z): return Categorical(logits=self.size*self.net(z))


@some(25)
@given(st.integers(2, 9), st.floats(.1, 20.), DTYPES, SEEDS)
def test_bounds_enclose_the_information_of_categories(n, size, dtype, seed):
    class Model: prior = Independent(Normal(torch.zeros(1, dtype=dtype), 1.), 1)
    with seeded(seed): Model.decoder = Softmax(n, size).to(dtype)
    exact = exact_information(Model, tol=1e-5)
    found = mutual_information(Model.decoder, Model.prior, Model.prior, 64, 400, seed)
    assert -1e-6 <= exact <= math.log(n) and inside(found, exact)


VECTORS = st.integers(1, 5).map(lambda n: (n,))
GREY = st.tuples(st.integers(4, 9), st.integers(4, 9))
PICTURES = GREY | st.tuples(st.integers(1, 3), st.integers(4, 6), st.integers(4, 6))
COLUMNS = st.lists(st.sampled_from(["normal", "bernoulli", 2, 5]), min_size=1, max_size=5)


@st.composite
def models(draw, latents=range(1, 9)):
    "Ready models of all kinds, and data like theirs."
    likelihood = draw(st.sampled_from(LIKELIHOODS) | COLUMNS)
    d_z, dtype, more = draw(st.sampled_from(latents)), draw(DTYPES), {}
    shape = draw(VECTORS | PICTURES) if isinstance(likelihood, str) else (len(likelihood),)
    if likelihood in ("categorical", "rounded", "logistics"):
        more = {"levels": draw(st.sampled_from([2, 3, 17]))}
    if likelihood == "normal":
        more = {"centre": draw(st.floats(-5, 5)), "scale": draw(st.floats(.1, 9))}
    with seeded(draw(SEEDS)):
        mae = ready_mae(shape, draw(st.sampled_from([None, .1])), likelihood, d_z, 4, dtype=dtype,
                        **more)
        return mae, mae.sample(6)


@some(25)
@given(made=models([1, 2, 3, 8, 64]))
def test_a_model_comes_back_as_it_was_saved(tmp_path_factory, made):
    mae, x = made
    held = Certificate(mae.target, Interval(.09, .11, 1e-4, 16, 9.), .02, mae.target is not None,
                       "held", "what would help: nothing")
    mae.certified = held, mae.fingerprint()
    mae.save(folder := tmp_path_factory.mktemp("model"))
    other = load(folder)
    assert torch.equal(mae.sample(4, seed=1),
                       other.sample(4, seed=1)) and other.sample(1).dtype == x.dtype
    for a, b in zip((mae.encode(x).base_dist.loc, mae.encode(x).base_dist.scale, *mae.parameters(),
                     *mae.buffers()),
                    (other.encode(x).base_dist.loc, other.encode(x).base_dist.scale,
                     *other.parameters(), *other.buffers()), strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype
    assert other.certified[0] == held and repr(other) == repr(mae) and other.recipe == mae.recipe
    with seeded(2): a = mae(x)
    with seeded(2): b = other(x)
    assert all(torch.equal(s, t) for s, t in zip(a, b))


@some(25)
@given(models(), st.integers(1, 5))
def test_codes_do_not_depend_on_the_rest_of_the_batch(made, cut):
    mae, x = made
    whole, parts = mae.encode(x), [mae.encode(part) for part in (x[:cut], x[cut:])]
    for name in ("loc", "scale"):
        assert_close(torch.cat([getattr(part.base_dist, name) for part in parts]),
                     getattr(whole.base_dist, name), rtol=1e-5, atol=1e-6)
    z = whole.mean.detach()
    assert_close(torch.cat([mae.decode(z[:cut]).log_prob(x[:cut]),
                            mae.decode(z[cut:]).log_prob(x[cut:])]), mae.decode(z).log_prob(x),
                 rtol=1e-4, atol=1e-4)


@some(25)
@given(models(), SEEDS)
def test_the_likelihood_of_data_does_not_change_when_they_are_repeated(made, seed):
    mae, x = made
    with seeded(seed):
        once, twice = (mae.log_likelihood(t.repeat(40, *[1]*(x.dim() - 1)), k=8).view(-1, len(x))
                       for t in (x, torch.cat([x, x])))
    # of each datum, drawn anew in each row
    stderr = (once.var(0)/len(once) + twice.var(0)/len(twice)).sqrt()
    assert once.isfinite().all() and ((once.mean(0) - twice.mean(0)).abs() <= 5*stderr + 1e-4).all()


HEADS = {
    "normal": lambda: NormalHead((2, 3), 1., 2.), "bernoulli": lambda: BernoulliHead((3,)),
    "categorical": lambda: CategoricalHead((2,), 4),
    "one category": lambda: CategoricalHead((), 5), "rounded": lambda: RoundedHead((2,), 5),
    "rounded, 3": lambda: RoundedHead((2,), 6, 3),
    "logistic": lambda: RoundedHead((2,), 4, 2, "logistic"), "grey": lambda: RoundedHead((3,), 256),
    "logistics": lambda: RoundedHead((3,), 256, 3, "logistic"),
    "deep": lambda: RoundedHead((1,), 65536, 3, "logistic"),
    "deep, normal": lambda: RoundedHead((1,), 65536),
    "table": lambda: TableHead(["normal", "bernoulli", 3], 1., 2.),
    "finite table": lambda: TableHead(["bernoulli", 3, "bernoulli"])}
SUPPORTS = {"bernoulli": [[0., 1.]]*3, "categorical": [range(4)]*2, "one category": [range(5)],
            "rounded": [range(5)]*2, "rounded, 3": [range(6)]*2,
            "logistic": [range(4)]*2, "finite table": [[0., 1.], [0., 1., 2.], [0., 1.]]}


@pytest.mark.parametrize("name", HEADS)
@some(12)
@given(st.sampled_from([0., .1, 1., 5., 30., 1e4]), DTYPES, SEEDS)
def test_heads_give_sound_distributions_whatever_the_net_returns(name, size, dtype, seed):
    head = HEADS[name]().to(dtype)
    with seeded(seed):
        if size < 1e4: a = (size*torch.randn(4, head.size, dtype=dtype)).clamp(-1e4, 1e4)
        else: a = size*(2*torch.randint(2, (4, head.size)) - 1).to(dtype)
        a.requires_grad_()
        d = head(a)
        x = d.sample((5,))
    log_p = d.log_prob(x)
    slope, = torch.autograd.grad(log_p.sum(), a)
    assert log_p.shape == (5, 4) and x.shape == (5, 4, *head.shape)
    assert log_p.isfinite().all() and not slope.isnan().any()
    if not isinstance(head, CategoricalHead) and "deep" not in name:
        assert d.mean.shape == (4, *head.shape) and d.mean.isfinite().all()
    # data of another's, as at the start of training
    far = head(a.detach().flip(0).requires_grad_())
    assert not far.log_prob(x).isnan().any()
    if name in SUPPORTS:
        values = torch.tensor([*itertools.product(*SUPPORTS[name])])
        values = values.view(-1, 1, *head.shape).to(x.dtype)
        # single precision of 1e4 is 1e-3
        assert_close(d.log_prob(values).exp().sum(0), torch.ones(4, dtype=log_p.dtype), rtol=0,
                     atol=3e-3 if size == 1e4 else 1e-4)


@pytest.mark.parametrize("name", HEADS)
@some(12)
@given(DTYPES, SEEDS)
def test_gradients_are_numbers_for_data_that_the_net_thinks_impossible(name, dtype, seed):
    head = HEADS[name]().to(dtype)
    with seeded(seed):
        a = (1e4*(2*torch.randint(2, (6, head.size)) - 1)).to(dtype).requires_grad_()
        x = head(torch.zeros_like(a)).sample()
    log_p = head(a).log_prob(x)
    slope, = torch.autograd.grad(log_p.sum(), a)
    assert (not log_p.isnan().any() and not slope.isnan().any() and log_p.isfinite().all()
            and slope.isfinite().all())


@some(80)
@given(st.integers(1, 4), st.integers(2, 256), st.sampled_from(["normal", "logistic"]), DTYPES,
       st.floats(-2, 3), st.floats(-2, 3), st.floats(0, 20), SEEDS)
def test_rounded_values_share_one_whole(components, levels, family, dtype, log_scale, log_spread,
                                        sharp, seed):
    with seeded(seed):
        logits, mean, scale = (torch.randn(3, components, dtype=dtype) for _ in range(3))
        logits, mean = sharp*logits, (levels - 1)/2*(1 + math.exp(log_spread)*mean)
        scale = (levels/4*(log_scale + scale).exp()).clamp(.05, 10*levels)
        d = Rounded(logits, mean, scale, levels, family)
        x = d.sample((50,))
    total = d.log_prob(torch.arange(levels).view(-1, 1)).exp().sum(0)
    assert_close(total, torch.ones(3, dtype=dtype), rtol=0, atol=1e-3 if dtype == torch.float32
                 else 3e-4)
    assert (0 <= x.min() and x.max() < levels and d.log_prob(x).isfinite().all()
            and ((-1e-3*levels <= d.mean) & (d.mean <= 1.002*levels - 1)).all())


@pytest.fixture
def unchecked():
    "On a device that holds no values nothing can be checked."
    Distribution.set_default_validate_args(False)
    yield
    Distribution.set_default_validate_args(__debug__)


@pytest.mark.parametrize("target", [None, .1])
@pytest.mark.parametrize("shape, likelihood, levels, latents", [
    (3, "normal", None, 2), (1, "normal", None, 1), (3, "bernoulli", None, 2),
    ((6, 7), "bernoulli", None, 2), (3, "categorical", 4, 2), (1, "categorical", 4, 2),
    ((5, 5), "categorical", 3, 2), ((3, 6, 6), "rounded", None, 9), ((6, 6), "logistics", None, 2),
    (3, ["normal", "bernoulli", 4], None, 2)])
def test_a_model_that_was_moved_mixes_no_devices(shape, likelihood, levels, latents, target,
                                                 unchecked):
    "Here to the device 'meta', which knows shapes and devices only, and needs no hardware."
    mae = ready_mae(shape, target, likelihood, latents, 4, levels, codes=8)
    x = mae.sample(6, seed=0)
    here = [t.dtype for t in mae(x)]
    mae, x = mae.to("meta"), x.to("meta")
    terms = mae(x)
    (terms.reconstruction - terms.rate + terms.information + terms.bound).backward()
    assert [t.dtype for t in terms] == here and {t.device.type for t in terms[:2]} == {"meta"}
    trained = [p for net in (mae.encoder, mae.decoder) for p in net.parameters()]
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in trained)
    # `encode` and `sample` look at values, which are not there
    q, drawn = mae.encoder(x), mae.decoder(mae.prior.sample((4,))).sample()
    found = drawn, q.mean, q.rsample(), mae.decoder(q.mean).log_prob(x)
    assert {t.device.type for t in found} == {"meta"}


def test_a_device_that_is_mixed_is_seen(unchecked):
    mae = ready_mae(3, .1, codes=8).to("meta")
    # left behind
    mae.decoder[1].centre = torch.zeros(3)
    with pytest.raises(RuntimeError, match="device"): mae(torch.zeros(6, 3, device="meta"))
