"Certificates, proposals and the encoder's side: chunks, extreme proposals, odd models."

import copy
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mae_nb.all import (
    FlowNet, LinearGaussian, MixtureNet, MutualAutoencoder, NormalNet, categorical_mae,
    encoder_side, exact_information, fit, fit_proposal, mixture, mutual_information, normal_mae,
    sequence_mae, standard_normal, sweep,
)
from mae_nb.annealing import Schedule, _Path, _walk, annealed_information
from mae_nb.certificate import certify
from mae_nb.context import seeded
from mae_nb.distributions import NormalMixture
from mae_nb.estimate import _codes_on_grid, _spread
from mae_nb.infomax import sandwich
from mae_nb.refine import Refined
from torch import nn
from torch.distributions import Categorical, Independent, Normal, Uniform
from torch.testing import assert_close

MODEL = LinearGaussian(torch.tensor([[2.]], dtype=torch.float64), 1.)


def wide(x): return MODEL.posterior(x, 1.5)


@pytest.mark.parametrize("n, k, rows", [(7, 100, 10), (100, 3, 10), (5, 10, 10**6), (3, 1, 1)])
def test_no_call_decodes_more_than_rows_and_pieces_make_the_whole(n, k, rows):
    sizes = []
    def decoder(z):
        sizes.append(len(z))
        return MODEL.decoder(z)
    found = mutual_information(decoder, MODEL.prior, wide, k=k, n=n, rows=rows, seed=0)
    assert max(sizes) <= max(rows, 1) and found.lower <= found.upper
    # the pairs are decoded once to draw x and once to weight it
    assert sum(sizes) == n*(k + 2)


def test_pieces_of_proposals_do_not_change_the_sandwich():
    with seeded(0):
        z = MODEL.prior.sample((6,))
        x = MODEL.decoder(z).sample()
    exact = [sandwich(z, x, MODEL.decoder, MODEL.prior, MODEL.posterior, 50, rows)
             for rows in (6, 60, 10**6)]
    for s in exact:
        assert_close(s.lower, s.upper)
        for a, b in zip(exact[0][2:], s[2:]): assert_close(a, b)


def test_a_proposal_that_misses_everything_gives_an_infinite_upper_end_and_no_nan():
    far = Independent(Normal(torch.full((1,), 1e6, dtype=torch.float64), 1e-3), 1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = mutual_information(lambda z: Independent(Normal(z, .1), 1), MODEL.prior, far, k=4,
                                   n=50, seed=0)
    assert (found.upper > 1e6 and not math.isnan(found.lower)
            and "outweighs all 4" in str(said[0].message))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(.05, 1.), min_size=1, max_size=4), st.integers(0, 100))
def test_a_mixture_is_a_density_whatever_its_weights(raw, seed):
    weights = [w/sum(raw) for w in raw]
    parts = [Independent(Normal(torch.tensor([[float(i - 1)]], dtype=torch.float64), .3 + .2*i), 1)
             for i in range(len(raw))]
    mixed = mixture(*[lambda x, p=p: p for p in parts], weights=weights)(torch.zeros(1))
    grid = torch.linspace(-12, 12, 8001, dtype=torch.float64)[:, None, None]
    assert_close(torch.trapezoid(mixed.log_prob(grid)[:, 0].exp(), grid[:, 0, 0]).item(), 1.,
                 atol=1e-6, rtol=0)
    with seeded(seed): assert mixed.sample((5,)).shape == (5, 1, 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=30), st.integers(2, 200),
       st.integers(0, 100))
def test_spread_points_rise_stay_inside_and_follow_the_density(density, n, seed):
    density = torch.tensor(density, dtype=torch.float64)
    nodes = torch.arange(len(density), dtype=torch.float64)**1.3
    with seeded(seed): z, here = _spread(nodes, density, n)
    assert (z.diff() >= -1e-9).all() and z.min() >= -1e-9 and z.max() <= nodes[-1] + 1e-9
    inside = torch.searchsorted(nodes, z.clamp(1e-9, nodes[-1] - 1e-9)) - 1
    share = (z - nodes[inside])/(nodes[inside + 1] - nodes[inside])
    assert_close(here, density[inside]*(1 - share) + density[inside + 1]*share, rtol=1e-5,
                 atol=1e-6)


def test_refined_codes_integrate_the_prior():
    def decoder(z): return Categorical(logits=-300*(z - torch.linspace(-1, 1, 5).to(z))**2)
    with seeded(0): z, log_w = _codes_on_grid(decoder, standard_normal(), 256)
    w = log_w.exp()
    assert_close(torch.stack([w @ z[:, 0]**m for m in (1, 2, 4)]), torch.tensor([0., 1., 3.]),
                 atol=2e-3, rtol=5e-3)


@pytest.mark.parametrize("batch, d", [((), 1), ((3,), 2), ((2, 4), 3)])
def test_shapes_and_moments_of_a_mixture_of_normals(batch, d):
    with seeded(1):
        mix = NormalMixture(torch.randn(*batch, 5), torch.randn(*batch, 5, d),
                            torch.rand(*batch, 5, d) + .2)
    with seeded(2): z = mix.rsample((20_000,))
    assert z.shape == (20_000, *batch, d) and mix.log_prob(z).shape == (20_000, *batch)
    assert_close(z.mean(0), mix.mean, atol=.06, rtol=0)


def other(net, target, **kw):
    return MutualAutoencoder(net(1, 1), NormalNet(1, 1), standard_normal(), net(1, 1), target,
                             data=torch.randn(512, 1), **kw)


def test_mixtures_can_be_swept_and_flows_fitted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = sweep(lambda t: other(MixtureNet, t), [.2, .4], steps=5, progress=False)
        assert all(r.history["elbo"].shape == (5,) for r in runs)
        history = fit(other(FlowNet, .3), steps=5, progress=False)
        assert torch.tensor(history["elbo"]).isfinite().all()


class Scalar(nn.Module):
    "A decoder with a parameter of shape ()."
    def __init__(self):
        super().__init__()
        self.log_sd = nn.Parameter(torch.zeros(()))
    def forward(self, z): return Independent(Normal(z, self.log_sd.exp()), 1)


@pytest.mark.parametrize("targets", [[.5], [.3, .6]])
def test_a_parameter_that_is_one_number_is_trained(targets):
    def make(t):
        return MutualAutoencoder(NormalNet(1, 1), Scalar(), standard_normal(), NormalNet(1, 1), t,
                                 data=torch.randn(512, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for r in sweep(make, targets, steps=20, progress=False):
            assert r.mae.decoder.log_sd.item() != 0.


def test_a_certificate_leaves_model_and_random_numbers_alone():
    torch.manual_seed(0)
    mae = categorical_mae(1.)
    before, state = copy.deepcopy(mae.state_dict()), torch.get_rng_state()
    found = mae.certificate()
    after = mae.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, after[name]) for name, t in before.items())
    assert not found.held and found.why == "not converged"
    assert mae.certificate(explain=False) == mae.certificate(explain=False)


def test_a_certificate_is_shown_until_the_parameters_change():
    torch.manual_seed(0)
    mae = normal_mae(0.)
    assert "no certificate" in repr(mae)
    mae.certificate(tol=.5)
    assert "held; I = " in repr(mae)
    mae.target = .3
    assert "no certificate" in repr(mae)
    mae.target = 0.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(mae, steps=2, progress=False)
    # what `fit` found
    assert f"asked 0 ± 0.02 nats: {'held' if mae.certified[0].held else 'not held'}" in repr(mae)
    mae.decoder.net[-1].bias.data.add_(1.)
    assert "no certificate" in repr(mae)


def test_a_decoder_without_parameters_is_the_reason_and_nothing_is_trained():
    class Still(nn.Module):
        def forward(self, z): return Independent(Normal(z, torch.ones_like(z)), 1)
    r = nn.Module()
    r.forward = lambda x: Independent(Normal(x/2, torch.full_like(x, .5**.5)), 1)
    found = certify(Still(), r, standard_normal(), 1.)
    assert found.why == "decoder class" and found.interval.holds(.5*math.log(2), 4)


def test_the_estimator_is_the_reason_where_no_budget_decides():
    torch.manual_seed(0)
    found = normal_mae(0.).certificate(tol=1e-4, budget=2**17)
    assert (found.held, found.why) == (False, "estimator") and "larger budget" in found.advice


def test_fit_proposal_raises_the_bound_and_leaves_the_decoder_alone():
    torch.manual_seed(0)
    decoder, r = NormalNet(1, 1), NormalNet(1, 1)
    with torch.no_grad(): decoder.net[-1].weight.mul_(10)
    weights = copy.deepcopy(decoder.state_dict())
    before = mutual_information(decoder, standard_normal(), r, k=0, n=4000, seed=0).lower
    fit_proposal(r, decoder, standard_normal(), steps=200)
    after = mutual_information(decoder, standard_normal(), r, k=0, n=4000, seed=0).lower
    assert after > before + .01
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), decoder.state_dict().values()))
    with pytest.raises(ValueError, match="lr got 0.0"):
        fit_proposal(r, decoder, standard_normal(), lr=0.)


def test_the_encoders_side_takes_a_rest_and_distributions_without_a_mean():
    x = torch.randn(100, 1)
    torch.manual_seed(0)
    for net in (NormalNet, MixtureNet, FlowNet):
        side = encoder_side(x, net(1, 1), standard_normal(), batch=64, seed=0)
        assert side.batch == 64 and side.included.mean <= side.excluded.mean + .01


def test_noise_is_no_active_unit():
    class Unconditional(nn.Module):
        "A distribution without a mean, whatever x is."
        def __init__(self):
            super().__init__()
            self.flow = FlowNet(1, 3)
        def forward(self, x): return self.flow(torch.zeros(len(x), 1))
    torch.manual_seed(0)
    x, prior = torch.randn(400, 1), standard_normal(3)
    assert encoder_side(x, Unconditional(), prior, batch=200, seed=0).active == 0


def test_importing_zuko_leaves_validation_on():
    FlowNet(1, 1)
    assert torch.distributions.Distribution._validate_args


def test_a_proposal_that_does_not_reach_the_code_is_told_apart():
    narrow = Uniform(torch.full((1,), -.5), .5, validate_args=False)
    inside = Independent(narrow, 1, validate_args=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = mutual_information(lambda z: Independent(Normal(z, .1), 1), standard_normal(),
                                   inside, k=8, n=200, seed=0)
    assert found.lower == -math.inf and not math.isnan(found.stderr) and said
    class Narrow(nn.Module):
        def forward(self, x): return inside.expand((len(x),))
    class Gain(nn.Module):
        def forward(self, z): return Independent(Normal(2*z, torch.ones_like(z)), 1)
    # a tenth of prior codes is enough
    found = certify(Gain(), Narrow(), standard_normal(), .5*math.log(5), tol=.1)
    assert found.held and math.isfinite(found.interval.width)


def test_certificates_can_be_had_without_gradients_and_with_few_codes():
    torch.manual_seed(0)
    mae = categorical_mae(1., codes=2)
    with torch.no_grad(): assert mae.certificate().why == "not converged"
    assert mae(mae.data[:8]).information.isfinite()


def test_points_are_shifted_at_random():
    nodes, density = torch.linspace(0, 1, 5), torch.ones(5)
    first, second = (_spread(nodes, density, 10)[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_sequences_are_checked_and_measured():
    torch.manual_seed(0)
    mae = sequence_mae(.3, length=4)
    assert mae.sample(5).shape == (5, 4) and exact_information(mae) >= 0
    with pytest.raises(ValueError, match=r"data got 2\.0 in row 0"):
        mae.elbo(torch.full((1, 4), 2.))
    with pytest.raises(ValueError, match="target got"): sequence_mae(3., length=4)


def test_an_interrupted_certificate_leaves_everything_as_it_was():
    torch.manual_seed(0)
    mae = normal_mae(0.)
    mae.certificate(tol=.5)
    held, modes = mae.certified, [m.training for m in mae.modules()]
    state, calls = torch.get_rng_state(), []
    def interrupt(*_):
        calls.append(1)
        if len(calls) > 3: raise KeyboardInterrupt
    hook = mae.decoder.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt): mae.certificate(tol=1e-4)
    hook.remove()
    assert mae.certified is held and [m.training for m in mae.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state) and mae.still_certified


def test_a_walk_that_is_left_leaves_the_settings_of_the_process():
    model = LinearGaussian(torch.ones(2, 1), .5)
    z = model.prior.sample((4,))
    path = _Path(model.decoder, model.prior, model.prior, model.decoder(z).sample())
    betas, steps = Schedule(torch.linspace(0, 1, 5), torch.ones(3, 1)).columns(1, 1)
    before = torch.distributions.Distribution._validate_args
    walk = _walk(path, z.expand(2, 4, 1), betas, steps, 3)
    with torch.no_grad():
        for _ in range(3): next(walk)
        assert torch.distributions.Distribution._validate_args == before
    assert annealed_information(model.decoder, model.prior, n=16, seed=0).lower < 5
    assert torch.distributions.Distribution._validate_args == before


def test_the_clock_ends_a_certificate_and_not_what_it_draws_before():
    torch.manual_seed(0)
    mae = normal_mae(0.)
    assert "no target" == MutualAutoencoder(
        mae.encoder, mae.decoder, standard_normal()).certificate(tol=.01, seconds=20).why
    # far from the end, the seed decides
    assert mae.certificate(tol=.2, seconds=None) == mae.certificate(tol=.2, seconds=500.)
    # neither end can be told from the truth
    mae.target = exact_information(mae)
    found = mae.certificate(tol=1e-7, seconds=.2)
    assert found.why == "estimator" and "larger tol" in found.advice
    with pytest.raises(ValueError, match=r"seconds got 0\.0"): mae.certificate(seconds=0.)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_refined_proposals_suit_a_decoder_without_independent_entries(dtype):
    torch.manual_seed(0)
    W = torch.randn(5, 3, dtype=dtype)
    noise = torch.eye(5, dtype=dtype) + .5
    def decoder(z): return torch.distributions.MultivariateNormal(z @ W.T, noise)
    prior = Independent(Normal(torch.zeros(3, dtype=dtype), 1.), 1)
    truth = .5*torch.logdet(torch.eye(5, dtype=dtype) + W @ W.T @ noise.inverse()).item()
    found = mutual_information(decoder, prior, Refined(prior, decoder, prior), k=64, n=400, seed=0)
    assert found.holds(truth, 3) and found.width < .05
    # in inference mode, too
    with torch.inference_mode():
        inside = mutual_information(decoder, prior, Refined(prior, decoder, prior), k=64, n=400,
                                    seed=0)
    assert abs(inside.lower - found.lower) < 1e-3


def test_refined_proposals_of_sequences_and_columns_hold_the_truth():
    torch.manual_seed(0)
    mae = sequence_mae(.3, length=4)
    with torch.no_grad():
        for p in mae.decoder.parameters(): p.mul_(3)
    s = Refined(mae.infomax, mae.decoder, mae.prior)
    found = mutual_information(mae.decoder, mae.prior, s, k=64, n=1000, seed=0)
    assert found.holds(exact_information(mae), 3)
