"Measuring, encoding, sampling and reporting run in evaluation mode, and change no setting."

import copy
import math
import warnings
from functools import partial

import pytest
import torch
from mae_nb.all import (
    MutualAutoencoder, NormalNet, encoder_side, fit, fit_proposal, importance_weighted, mixture,
    mutual_information, ready_mae, report, seeded, standard_normal, text_mae,
)
from mae_nb.certificate import certify
from mae_nb.context import measuring
from mae_nb.supports import log_prob_of
from torch import nn
from torch.distributions import (
    Beta, Distribution, Exponential, Independent, Normal, Pareto, TransformedDistribution, Uniform,
)
from torch.distributions.transforms import AffineTransform


def noisy_net(d_in: int, d_out: int) -> nn.Module:
    "A net that is another in training, and changes when it is used there."
    return nn.Sequential(nn.Linear(d_in, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5),
                         NormalNet(16, d_out, 8))


@pytest.fixture
def mae():
    with seeded(0):
        return MutualAutoencoder(noisy_net(3, 2), noisy_net(2, 3), standard_normal(2),
                                 noisy_net(3, 2), 1.0)


with seeded(1):
    X = torch.randn(20, 3)
MEASURES = {
    "information": lambda m: m.information(k=4, n=50, seed=0),
    "certificate": lambda m: m.certificate(0.5, budget=2**12, explain=False),
    "verdict": lambda m: certify(m.decoder, m.infomax, m.prior, 3.0, 0.1, n=64, k=4, budget=2**9,
                                 explain=False),
    "report": lambda m: report(m, X, k=4, tol=0.5),
    "encode": lambda m: m.encode(X).mean,
    "encode one": lambda m: m.encode(X[:1]).mean,
    "decode": lambda m: m.decode(torch.ones(4, 2)).mean,
    "elbo": lambda m: seeded_(lambda: m.elbo(X).total),
    "sample": lambda m: m.sample(5, seed=0),
    "log-likelihood": lambda m: seeded_(lambda: m.log_likelihood(X, k=4)),
    "importance-weighted bound": lambda m: seeded_(
        lambda: importance_weighted(X, m.decoder, m.prior, m.encoder, 4)
    ),
    "encoder's side": lambda m: encoder_side(X, m.encoder, m.prior, seed=0),
    "mutual information": lambda m: mutual_information(m.decoder, m.prior, m.infomax, k=4, n=50,
                                                       seed=0),
    "nets in a mixture": lambda m: mutual_information(
        m.decoder, m.prior, mixture(m.infomax, m.prior), k=4, n=50, seed=0
    ),
    "nets in functions": lambda m: mutual_information(
        lambda z: m.decoder(z), m.prior, partial(lambda net, x: net(x), m.infomax), k=4, n=50,
        seed=0
    ),
    "a proposal": lambda m: fit_proposal(Shifted(), m.decoder, m.prior, steps=3, n=8).bias,
}


class Shifted(nn.Module):
    "A proposal that begins the same each time."

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return Independent(Normal(x[:, :2] + self.bias, 1.0), 1)


def seeded_(f):
    with seeded(0):
        return f()


def numbers(found) -> list[float]:
    "What was found, as a list."
    if torch.is_tensor(found):
        return found.detach().flatten().tolist()
    if isinstance(found, (tuple, list)):
        return [v for part in found for v in numbers(part)]
    return [found] if isinstance(found, (int, float)) and not isinstance(found, bool) else []


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_changes_nothing_and_depends_on_no_switch(name, mae):
    results = []
    for training, grad, validate in [
        (False, True, True),
        (True, True, True),
        (True, False, True),
        (True, True, False),
        (False, False, False),
    ]:
        mae.train(training)
        mae.encoder[3].eval()  # one part stands otherwise
        modes = [m.training for m in mae.modules()]
        before = copy.deepcopy(mae.state_dict()), modes, torch.get_rng_state()
        Distribution.set_default_validate_args(validate)
        try:
            with warnings.catch_warnings(), torch.set_grad_enabled(grad):
                warnings.simplefilter("ignore")
                results.append(numbers(MEASURES[name](mae)))
                assert (torch.is_grad_enabled(), Distribution._validate_args) == (grad, validate)
        finally:
            Distribution.set_default_validate_args(True)
        assert ([m.training for m in mae.modules()] == before[1]
                and torch.equal(torch.get_rng_state(), before[2]))
        assert all(torch.equal(a, b) for a, b in zip(mae.state_dict().values(), before[0].values()))
        assert all(p.grad is None for p in mae.parameters())
    assert results[0] and all(r == pytest.approx(results[0], nan_ok=True, rel=1e-6, abs=1e-6)
                              for r in results)


@pytest.mark.parametrize("name", MEASURES)
def test_an_error_inside_changes_nothing_either(name, mae):
    calls = []

    def fail(module, given):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt

    for net in (mae.encoder, mae.decoder):
        net[0].register_forward_pre_hook(fail)
    calls.append(1) if name in ("encode", "encode one", "decode", "sample",
                                "encoder's side") else None
    state = torch.get_rng_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            MEASURES[name](mae)
    except KeyboardInterrupt:
        pass
    assert (
        all(m.training for m in mae.modules())
        and torch.is_grad_enabled()
        and Distribution._validate_args
        and torch.equal(torch.get_rng_state(), state)
    )


def test_what_is_decoded_stays_in_evaluation_mode():
    "An autoregressive distribution computes when it is asked, which is after `decode` has ended."
    with seeded(0):
        mae = text_mae(9, 6, None, latents=2, width=8, drop=0.9)
    x = torch.tensor([[3, 4, 5, 2, 0, 0]])
    later = mae.decode(torch.zeros(1, 2))
    assert mae.training and len({later.log_prob(x).item() for _ in range(5)}) == 1
    with seeded(0):
        assert len({mae.decoder(torch.zeros(1, 2)).log_prob(x).item() for _ in range(20)}) > 1


# x in [0, 1] is z moved by a part of known law; information by quadrature over the difference
NARROW = [
    lambda z: Uniform(z - 0.25, z + 0.25),
    lambda z: Uniform(z, z + 0.5),
    lambda z: Uniform(z - 0.1, z + 0.3),
    lambda z: TransformedDistribution(Exponential(torch.full_like(z, 5.0)),
                                      AffineTransform(z, 1.0)),
    lambda z: TransformedDistribution(Exponential(torch.full_like(z, 5.0)),
                                      AffineTransform(z, -1.0)),
    lambda z: TransformedDistribution(Beta(torch.full_like(z, 2.0), 2.0), AffineTransform(z, 0.7)),
    lambda z: TransformedDistribution(Uniform(torch.zeros_like(z), 1.0),
                                      [AffineTransform(0.0, 0.3), AffineTransform(z, 1.0)]),
    lambda z: Pareto(z + 0.2, torch.full_like(z, 3.0)),
    lambda z: Uniform(torch.zeros_like(z), z + 0.1),
    lambda z: Uniform(-z - 0.1, z + 0.1),
]


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("make", NARROW)
def test_a_support_that_moves_with_the_code_is_measured(make, validate):
    prior = Independent(Uniform(torch.zeros(1), torch.ones(1)), 1)

    def decoder(z):
        return Independent(make(z), 1)

    z = (torch.arange(500) / 500 + 1 / 1000)[:, None]
    with measuring(seed=1):
        code = torch.rand(600, 1)
        x = decoder(code).sample()
        evidence = log_prob_of(decoder(z), x[:, None]).logsumexp(1) - math.log(len(z))
        values = (decoder(code).log_prob(x) - evidence).double()
    truth, error = values.mean().item(), (values.std() / len(values) ** 0.5).item()
    Distribution.set_default_validate_args(validate)
    try:
        found = mutual_information(decoder, prior, prior, k=256, n=1000, seed=0)
    finally:
        Distribution.set_default_validate_args(True)
    off = 3 * error + 0.01
    assert found.lower95 - off <= truth <= found.upper95 + off, (found, truth)


SHAPES = [
    lambda z: Normal(z, 1.0),
    lambda z: Normal(z[:, 0:1], 1.0),
    lambda z: Normal(z[:1, 0], 1.0),
    lambda z: Normal(torch.zeros(()), 1.0),
    lambda z: Independent(Normal(z[None], 1.0), 1),
    lambda z: Normal(z.T, 1.0),
    lambda z: Independent(Normal(z, 1.0), 2),
    lambda z: Normal(z[..., None], 1.0),
    lambda z: Independent(Normal(z[:-1], 1.0), 1),
    lambda z: Independent(Normal(z.repeat(2, 1), 1.0), 1),
]


@pytest.mark.parametrize("wrong", SHAPES)
@pytest.mark.parametrize("what", ["decoder", "proposal"])
def test_a_distribution_of_another_batch_shape_is_refused(wrong, what):
    prior, right = standard_normal(1), lambda z: Independent(Normal(z, 1.0), 1)
    nets = (wrong, right) if what == "decoder" else (right, wrong)
    for measure in (
        lambda: mutual_information(nets[0], prior, nets[1], k=4, n=8),
        lambda: certify(nets[0], nets[1], prior, 1.0),
        lambda: importance_weighted(torch.zeros(8, 1), nets[0], prior, nets[1], 4),
    ):
        message = "got a distribution of batch shape .* but takes one of batch shape"
        with pytest.raises(ValueError, match=message):
            measure()


ASKS = {
    "fit": lambda m, x: fit(m, x, steps=1, progress=False),
    "a loop of one's own": lambda m, x: m.check_data(x),
    "ELBO": lambda m, x: m.elbo(x),
    "log-likelihood": lambda m, x: m.log_likelihood(x, k=2),
    "encode": lambda m, x: m.encode(x),
    "report": lambda m, x: report(m, x, k=2),
}


@pytest.mark.parametrize("name", ASKS)
def test_data_are_refused_after_torch_compile(name):
    Distribution.set_default_validate_args(False)  # as its first call does
    with seeded(0):
        mae = ready_mae((8, 8), 1.0, "bernoulli")
    with pytest.raises(ValueError, match="got 0.5 in row 3"):
        ASKS[name](mae, torch.eye(8).expand(5, 8, 8).index_fill(0, torch.tensor([3]), 0.5))
