"Core, bounds, oracles, nets and model: what each line does, beyond the tests of the chapters."
import importlib
import math
import warnings

import numpy as np
import pytest
import torch
from mae_nb.control import Penalty, PIMultiplier
from mae_nb.estimate import model_terms
from mae_nb.checks import check_count, check_number
from mae_nb.context import seeded
from mae_nb.core import (
    _stratified_rsample, corrected, estimate, expect, is_enumerable, moments, prior_grid,
)
from mae_nb.elbo import elbo, importance_weighted
from mae_nb.models import categorical_mae, normal_mae, ready_mae
from mae_nb.nets import standard_normal
from mae_nb.infomax import Interval, controls_of, infomax_bound, mutual_information, sandwich
from mae_nb.loading import load
from mae_nb.mae import MutualAutoencoder
from mae_nb.nets import NormalNet, OneHot, WindowNet, mlp
from mae_nb.oracle import LinearGaussian, exact_information
from mae_nb.train import fit, sweep
from torch import nn
from torch.nn import functional as F
from torch.distributions import Categorical, Distribution, Independent, Normal
from torch.testing import assert_close


class SampleOnly:
    "A distribution that can neither be enumerated nor reparameterised."
    def __init__(self, d): self.d = d
    def sample(self, shape=()): return self.d.sample(shape)
    def log_prob(self, x): return self.d.log_prob(x)


def test_checks_refuse_truth_values_and_upper_ends():
    with pytest.raises(ValueError, match="steps got True"): check_count("steps", True)
    with pytest.raises(ValueError, match="share got 2.0"):
        check_number("share", 2., "a share", low=0., high=1.)


def test_long_supports_are_not_enumerated():
    assert (is_enumerable(Categorical(logits=torch.zeros(10)))
            and not is_enumerable(Categorical(logits=torch.zeros(2000))))


def test_score_function_does_not_differentiate_the_reward_twice():
    logits = torch.tensor([.3, -.5, 1.], dtype=torch.float64, requires_grad=True)
    exact, = torch.autograd.grad((logits.softmax(0)*5*logits).sum(), logits)
    with seeded(0):
        g = torch.stack([torch.autograd.grad(
            expect(SampleOnly(Categorical(logits=logits)), lambda x: 5*logits[x]), logits)[0]
                         for _ in range(3000)])
    assert ((g.mean(0) - exact).abs() < 4*g.std(0)/len(g)**.5).all()


def test_vectors_are_drawn_independently():
    with seeded(0): x = _stratified_rsample(Independent(Normal(torch.zeros(2000, 3), 1.), 1))[0]
    assert (x.T.corrcoef() - torch.eye(3)).abs().max() < .1


def test_grid_shifts_anew():
    assert not torch.equal(prior_grid(standard_normal(2), 8, shift=True)[0],
                           prior_grid(standard_normal(2), 8, shift=True)[0])
    assert torch.equal(prior_grid(standard_normal(2), 8)[0], prior_grid(standard_normal(2), 8)[0])


def test_gradient_of_the_elbo_passes_through_the_code():
    model = LinearGaussian(torch.tensor([[1.]], dtype=torch.float64), .8)
    shift = torch.tensor(.3, dtype=torch.float64, requires_grad=True)
    def encoder(x):
        return Independent(Normal(model.posterior(x).mean + shift,
                                  model.covariance.sqrt().expand(len(x), 1)), 1)
    with seeded(0):
        slope, = torch.autograd.grad(elbo(torch.zeros(40_000, 1).double(), encoder, model.decoder,
                                          model.prior).total.mean(), shift)
    # the planted gap is shift² / (2 covariance)
    assert abs(slope + .3/model.covariance.item()) < .02


def test_interval_holds_up_to_its_errors():
    assert [Interval(1., 2., .1).holds(v) for v in (.7, .9, 1.5, 2.1, 2.3)] == [False, True, True,
                                                                                True, False]


def test_mutual_information_reports_the_larger_error_in_chunks_and_refuses_nan():
    model = LinearGaussian(torch.tensor([[2.]], dtype=torch.float64), 1.)
    with seeded(0):
        known = moments(model.prior)
        z = model.prior.sample((500,))
        sides = sandwich(z, model.decoder(z).sample(), model.decoder, model.prior,
                         lambda x: model.prior.expand((len(x),)), 4,
                         controls=controls_of(model.prior))
    ends = [corrected(end, sides.controls, known) for end in sides[:2]]
    assert mutual_information(model.decoder, model.prior, model.prior, k=4, n=500,
                              seed=0).stderr == max(end.stderr for end in ends)
    assert all(end.stderr <= estimate(side).stderr for end, side in zip(ends, sides))
    sizes = []
    mutual_information(lambda z: sizes.append(len(z)) or model.decoder(z), model.prior, model.prior,
                       k=4, n=100, rows=40)
    # the first call decodes all codes once; no call is larger than that
    assert max(sizes) == 40 or max(sizes) == 100
    with pytest.raises(FloatingPointError, match="NaN as log-probability"):
        mutual_information(lambda z: Independent(Normal(math.nan*z, 1., validate_args=False), 1,
                                                 validate_args=False), model.prior, model.prior,
                           k=2, n=10)


def test_a_value_that_never_occurs_changes_no_information():
    class Model: prior = standard_normal()
    Model.decoder = staticmethod(lambda z: Categorical(logits=torch.cat([z, -z], -1)))
    without = exact_information(Model)
    Model.decoder = staticmethod(lambda z: Categorical(logits=torch.cat([z, -z, 0*z - math.inf],
                                                                        -1)))
    assert abs(exact_information(Model) - without) < 1e-6


def test_measuring_leaves_the_decoder_as_it_was():
    mae = categorical_mae(1.)
    exact_information(mae)
    assert mae.training and {p.dtype for p in mae.parameters()} == {torch.float32}


def test_bound_that_trains_the_infomax_net_is_the_infomax_bound():
    mae = categorical_mae(1.)
    with seeded(0), torch.no_grad():
        for p in mae.decoder.parameters(): p.mul_(2)
        bound = torch.stack([model_terms(mae.decoder, mae.infomax, mae.prior).bound
                             for _ in range(20)]).mean()
        z = mae.prior.sample((20_000,))
        direct = estimate(infomax_bound(z, mae.decoder(z).sample(), mae.infomax, mae.prior))
    assert abs(bound - direct.mean) < 4*direct.stderr + 1e-3


def test_gradient_of_information_with_respect_to_the_noise():
    model = LinearGaussian(torch.tensor([[2.]]), 1.)
    s = torch.tensor(1., requires_grad=True)
    def decoder(z): return Independent(Normal(2*z, s*torch.ones_like(z)), 1)
    class R(nn.Module):
        def forward(self, x): return model.posterior(x, 1.3)
    with seeded(0):
        g = estimate(torch.stack([torch.autograd.grad(model_terms(decoder, R(),
                                                                  model.prior).information, s)[0]
                                  for _ in range(200)]))
    assert abs(g.mean + .8) < 4*g.stderr + 1e-3  # I = log(1 + 4/s²)/2


def test_multiplier_is_bounded_on_both_sides():
    pi = PIMultiplier().start()
    for sign in (1, -1):
        for _ in range(1000): pi(sign*torch.ones(1))
        assert pi.multiplier.item() == sign*50


def test_nets_have_the_activation_and_the_window_asked_for():
    assert [type(layer) for layer in mlp(3, 2, act=nn.Tanh)] == [nn.Linear, nn.Tanh, nn.Linear,
                                                                 nn.Tanh, nn.Linear]
    with seeded(0): net = WindowNet(1, 10, 2.)
    z = torch.tensor([[.3]])
    p, centre = net(z).probs[0], 4.5*(1 + net.net(z)).item()
    assert_close((p[4]/p[5]).item(), math.exp(-((4 - centre)**2 - (5 - centre)**2)/8), rtol=1e-4,
                 atol=0)


def test_model_asks_the_right_net():
    mae, plain, x = categorical_mae(1.), categorical_mae(), torch.arange(10)
    assert mae.information(k=3, n=50, seed=1) == mutual_information(mae.decoder, mae.prior,
                                                                    mae.infomax, k=3, n=50, seed=1)
    assert plain.information(k=3, n=50, seed=1) == mutual_information(plain.decoder, plain.prior,
                                                                      plain.encoder, k=3, n=50,
                                                                      seed=1)
    assert [t.item() for t in plain(x)[2:]] == [0., 0.]
    with seeded(0): measured = mae.log_likelihood(x, k=3)
    with seeded(0):
        assert_close(measured, importance_weighted(x, mae.decoder, mae.prior, mae.encoder, 3))


def test_constraint_never_trains_the_infomax_net_nor_the_bound_the_decoder():
    for mae in (normal_mae(1.), normal_mae(1., k=0), normal_mae(1., k=4), categorical_mae(1., k=4)):
        terms = mae(mae.data[:10])
        for part, net in ((terms.information, "infomax"), (terms.bound, "decoder"),
                          (terms.bound, "encoder")):
            grads = torch.autograd.grad(part, list(getattr(mae, net).parameters()),
                                        allow_unused=True, retain_graph=True)
            assert all(g is None or not g.any() for g in grads), (mae, net)


def test_building_and_checking_leave_the_random_state_alone():
    mae = categorical_mae(1.)
    state = torch.get_rng_state()
    rebuilt = MutualAutoencoder(mae.encoder, mae.decoder, mae.prior, mae.infomax, 1., data=mae.data)
    rebuilt.check_data(mae.data)
    assert torch.equal(torch.get_rng_state(), state) and rebuilt.training


def test_data_is_converted_and_checked_wherever_it_enters():
    mae = categorical_mae(1.)
    assert mae.check_data(np.arange(3, dtype=np.int32)).dtype == torch.int64
    assert normal_mae(1.).check_data(np.zeros((3, 1))).dtype == torch.float32
    for enter in (mae.encode, mae.elbo, mae.log_likelihood):
        with pytest.raises(ValueError, match="data got 10 in row 1"): enter(torch.tensor([3, 10]))
    with pytest.raises(ValueError, match="infomax got event shape"):
        MutualAutoencoder(mae.encoder, mae.decoder, mae.prior,
                          nn.Sequential(OneHot(10), NormalNet(10, 2)), 1.)


def test_dropout_is_measured_as_used():
    mae = categorical_mae(1.)
    noisy = MutualAutoencoder(mae.encoder, nn.Sequential(nn.Dropout(.9), mae.decoder), mae.prior,
                              mae.infomax, 1.)
    assert noisy.training and noisy.information(k=4, n=50, seed=0) == mae.information(k=4, n=50,
                                                                                      seed=0)
    assert abs(exact_information(noisy) - exact_information(mae)) < 1e-9


@pytest.mark.parametrize("make",
                         [lambda zuko: zuko.distributions.DiagNormal(torch.zeros(2), torch.ones(2)),
                          lambda zuko: zuko.flows.NSF(2, transforms=1, hidden_features=[8])()])
def test_a_prior_of_zuko_serves(make, tmp_path):
    "Its parts refer to each other, which what walks through them must stand."
    validate = Distribution._validate_args
    with seeded(0): prior, x = make(importlib.import_module("zuko")), torch.randn(100, 3)
    # zuko's import turns it off, for everybody
    Distribution.set_default_validate_args(validate)
    def build(target):
        return MutualAutoencoder(NormalNet(3, 2), NormalNet(2, 3), prior, NormalNet(3, 2), target)
    with seeded(0): mae = build(.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = fit(mae, x, steps=5, batch_size=32, progress=False)
    assert np.isfinite(history["elbo"]).all()
    mae.save(tmp_path)
    back = load(tmp_path, build)
    assert torch.equal(back.encode(x).mean,
                       mae.encode(x).mean) and back.certified[0] == mae.certified[0]


class Hidden(nn.Module):
    "A layer by a function of a tensor, in any mode."
    def __init__(self, act):
        super().__init__()
        self.act = act

    def forward(self, h): return self.act(h)


class Weights(nn.Module):
    "A linear layer whose weights are drawn at each call."
    def __init__(self, sd):
        super().__init__()
        self.layer, self.sd = nn.Linear(8, 8), sd

    def forward(self, h): return self.layer(h) + self.sd*F.linear(h, torch.randn(8, 8))


class Counts(nn.Module):
    "A layer that changes with each call, without random numbers."
    calls = 0

    def forward(self, h):
        self.calls += 1
        return h + self.calls


def with_numpy():
    "Noise by NumPy, the same sequence in each test."
    rng = np.random.default_rng(0)
    return lambda h: h + float(rng.normal())


RANDOM = {
    "dropout": lambda: Hidden(lambda h: F.dropout(h, .5)),
    "rare dropout": lambda: Hidden(lambda h: F.dropout(h, .02)),
    "alpha dropout": lambda: Hidden(lambda h: F.alpha_dropout(h, .5, training=True)),
    "feature dropout": lambda: Hidden(lambda h: F.feature_alpha_dropout(h, .5, training=True)),
    "noise": lambda: Hidden(lambda h: h + .01*torch.randn_like(h)),
    "random scale": lambda: Hidden(lambda h: h*(1 + .1*torch.rand(1))),
    "Bernoulli": lambda: Hidden(lambda h: h*torch.bernoulli(torch.full_like(h, .5))),
    "Gumbel": lambda: Hidden(lambda h: F.gumbel_softmax(h)),
    "weights": lambda: Weights(.1),
    "NumPy": lambda: Hidden(with_numpy()),
    "state": Counts,
}
FIXED = {
    "dropout": lambda: nn.Dropout(.5),
    "of its mode": lambda: Mode(),
    "alpha dropout": lambda: nn.AlphaDropout(.5),
    "batch normalisation": lambda: nn.BatchNorm1d(8),
    "layer normalisation": lambda: nn.LayerNorm(8),
    "leaky units of random slope": lambda: nn.RReLU(),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)),
    "lazy": lambda: nn.LazyLinear(8),
    "draws what it does not use": lambda: Hidden(lambda h: (torch.rand(3), h)[1]),
    "dropout of nothing": lambda: Hidden(lambda h: F.dropout(h, 0.)),
}


class Mode(nn.Module):
    "Dropout in training alone."
    def forward(self, h): return F.dropout(h, training=self.training)


def with_layer(part, layer):
    "A model with this layer in one of its nets."
    with seeded(0):
        nets = {name: nn.Sequential(nn.Linear(2, 8), layer if name == part else nn.SiLU(),
                                    NormalNet(8, 2)) for name in ("encoder", "decoder", "infomax")}
        return MutualAutoencoder(**nets, prior=standard_normal(2), target=.5)


@pytest.mark.parametrize("part", ["encoder", "decoder", "infomax"])
@pytest.mark.parametrize("name", RANDOM)
def test_a_net_that_draws_random_numbers_in_evaluation_mode_is_refused(name, part):
    what = "code" if part == "decoder" else "datum"
    with pytest.raises(ValueError, match=f"{part} got a module that gives two distributions for "
                       rf"the same {what} in evaluation mode \(.*\), but takes one that does not "
                       r"draw random numbers, such as F.dropout\(x, training=self.training\)"):
        with_layer(part, RANDOM[name]())


@pytest.mark.parametrize("part", ["encoder", "decoder", "infomax"])
@pytest.mark.parametrize("name", FIXED)
def test_a_net_that_is_a_function_in_evaluation_mode_is_taken(name, part):
    layer = FIXED[name]()
    state = torch.get_rng_state()
    mae = with_layer(part, layer)
    assert torch.equal(torch.get_rng_state(), state) and mae.training and layer.training


@pytest.mark.parametrize("control", ["gentle", PIMultiplier(gain=2.), Penalty(weight=3.)], ids=str)
def test_a_control_is_saved_with_its_settings(control, tmp_path):
    mae = categorical_mae(.5, control=control, width=4)
    mae.certificate(explain=False, budget=2**14)
    mae.save(tmp_path)
    back = load(tmp_path)
    assert back.control == control and back.still_certified == mae.still_certified is not None
    assert back.recipe == mae.recipe and f"control={control!r}" in repr(back)
    mae.control = Penalty(weight=4.)
    assert mae.still_certified is None
    back.save(tmp_path)
    with pytest.raises(ValueError, match="make got a function whose models have control="):
        load(tmp_path, lambda target: categorical_mae(target, control=mae.control, width=4))


class Steps:
    "A controller by a user: a coefficient of fixed size."
    def __init__(self, size): self.size = size
    def start(self, members=1, device="cpu"): return Steps(self.size)
    def __call__(self, error): return self.size*error.sign()


def test_a_control_by_a_user_comes_with_its_function(tmp_path):
    def make(target, size=2.): return categorical_mae(target, control=Steps(size), width=4)
    mae = make(.5)
    mae.certificate(explain=False, budget=2**14)
    mae.save(tmp_path)
    assert load(tmp_path, make).still_certified == mae.still_certified is not None
    with pytest.raises(ValueError, match="make got None for a model with a controller of the "
                       "class 'Steps', but takes the function target -> model that built it"):
        load(tmp_path)
    for other in (lambda target: make(target, 3.), lambda target: categorical_mae(target, width=4)):
        with pytest.raises(ValueError, match="make got a function whose models have control="):
            load(tmp_path, other)
    mae.control.size = 5.
    assert mae.still_certified is None


@pytest.mark.parametrize("control", ["pid", 5, ["pi"], {}, PIMultiplier, len,
                                     nn.Linear(1, 1)], ids=str)
def test_what_is_no_control_is_refused(control):
    with pytest.raises(ValueError, match="control got .* but takes 'pi' or 'gentle' or 'penalty'"):
        categorical_mae(.5, control=control)


def pictures(target=.3, **how):
    "A small model of black and white pixels, whose prior can shrink, and data for it."
    x = (torch.rand(256, 8, generator=torch.Generator().manual_seed(0)) < .5).float()
    x[:, 1:4], x[:, 5:] = x[:, :1], x[:, 4:5]
    with seeded(0): return ready_mae(8, target, "bernoulli", latents=2, width=16, **how), x


def test_a_model_that_says_too_much_settles_and_is_saved_with_its_spread(tmp_path):
    mae, x = pictures()
    fit(mae, x, steps=300, validation=None, progress=False)
    assert mae.control == "spread" and mae.prior_net.spread < .9
    assert abs(mae.information(k=64, n=20_000, seed=3).middle - .3) < .05
    mae.save(tmp_path)
    other = load(tmp_path)
    assert torch.equal(other.prior_net.spread, mae.prior_net.spread)
    assert torch.equal(other.sample(20, seed=0), mae.sample(20, seed=0))
    # a state dictionary has it, too, and one without it undoes it
    fresh, _ = pictures()
    before = fresh.state_dict()
    fresh.load_state_dict(mae.state_dict())
    assert torch.equal(fresh.prior.stddev, mae.prior.stddev)
    fresh.load_state_dict(before)
    assert fresh.prior_net.spread is None


def test_each_model_of_a_sweep_settles_and_training_begins_unshrunk():
    _, x = pictures()
    runs = sweep(lambda M: pictures(M)[0], [.2, .5, None], data=x, steps=300, progress=False)
    for run in runs[:2]:
        assert abs(run.mae.information(k=64, n=20_000, seed=3).middle - run.target) < .06
    assert runs[2].mae.prior_net.spread is None
    fit(runs[0].mae, x, steps=1, validation=None, progress=False)
    assert runs[0].mae.prior_net.spread.item() != 1.


def test_what_settles_by_default():
    assert pictures()[0].control == "spread" and pictures(k=0)[0].control == "pi"
    assert pictures(control="pi")[0].control == "pi"
    with seeded(0):
        assert categorical_mae(.5).control == "pi"
        assert ready_mae(3, .5, "normal").control == "pi"
