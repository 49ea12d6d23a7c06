"Nets and priors of any kind train, are measured, saved and loaded, or are refused by name."

import copy
import importlib
import warnings

import pytest
import torch
from mae_nb.all import (
    MutualAutoencoder, NormalNet, categorical_mae, fit, load, ready_mae, report, seeded,
    standard_normal, sweep,
)
from mae_nb.context import validating
from torch import nn
from torch.distributions import (
    Categorical,
    Distribution,
    Gumbel,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    TransformedDistribution,
    Uniform,
    constraints,
)
from torch.distributions.transforms import AffineTransform
from torch.nn.utils import parametrizations

with seeded(0):
    X = torch.randn(40, 3)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def net(i, o, *layers):
    return nn.Sequential(nn.Linear(i, 8), *layers, NormalNet(8, o, 8))


def model(encoder=None, decoder=None, infomax=None, prior=None, target=0.3, **kw):
    nets = encoder or net(3, 2), decoder or net(2, 3), prior or standard_normal(2)
    return MutualAutoencoder(*nets, infomax or net(3, 2), target, codes=16, k=2, **kw)


class Shared(nn.Module):
    "A net that stands on another's first layer."

    def __init__(self, first, o):
        super().__init__()
        self.first, self.last = first, NormalNet(8, o, 8)

    def forward(self, a):
        return self.last(self.first(a))


class Counting(NormalNet):
    "A net that counts its calls in a buffer."

    def __init__(self, i, o):
        super().__init__(i, o, 8)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, a):
        self.calls += self.training
        return super().forward(a)


class Lazy(nn.Module):
    "A net whose first layer takes its size from its first input."

    def __init__(self, o):
        super().__init__()
        self.first, self.last = nn.LazyLinear(8), NormalNet(8, o, 8)

    def forward(self, a):
        return self.last(self.first(a).tanh())


def hooked(i, o, **_):
    made = net(i, o)
    made[0].register_forward_hook(lambda module, given, out: 2 * out)
    return made


def with_shared_layer():
    first = nn.Sequential(nn.Linear(3, 8), nn.SiLU())
    return model(encoder=Shared(first, 2), infomax=Shared(first, 2))


def tied():
    first, back = nn.Linear(3, 8), nn.Linear(2, 8)
    made = model(
        encoder=nn.Sequential(first, NormalNet(8, 2, 8)),
        decoder=nn.Sequential(back, NormalNet(8, 3, 8)),
    )
    made.decoder[1].net[2].weight = made.encoder[1].net[2].weight
    return made


def frozen():
    made = model()
    made.decoder[0].requires_grad_(False)
    return made


SIZES = (3, 2), (2, 3), (3, 2)  # of encoder, decoder and infomax net
NETS = {
    "plain": model,
    "dropout": lambda: model(*(net(i, o, nn.Dropout(0.3)) for i, o in SIZES)),
    "batch norm": lambda: model(*(net(i, o, nn.BatchNorm1d(8)) for i, o in SIZES)),
    "layer norm": lambda: model(net(3, 2, nn.LayerNorm(8))),
    "weight norm": lambda: model(
        decoder=nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 8)), NormalNet(8, 3, 8))
    ),
    "spectral norm": lambda: model(
        decoder=nn.Sequential(parametrizations.spectral_norm(nn.Linear(2, 8)), NormalNet(8, 3, 8))
    ),
    "orthogonal": lambda: model(
        nn.Sequential(parametrizations.orthogonal(nn.Linear(3, 8)), NormalNet(8, 2, 8))
    ),
    "lazy": lambda: model(Lazy(2), Lazy(3), Lazy(2)),
    "hooks": lambda: model(hooked(3, 2), hooked(2, 3)),
    "a shared layer": with_shared_layer,
    "tied weights": tied,
    "a frozen layer": frozen,
    "counting": lambda: model(decoder=Counting(2, 3)),
    "double": lambda: model(dtype=torch.float64),
    "one net twice": lambda: model(*[net(3, 2)] * 1, infomax=None),
    "scripted": lambda: model(
        decoder=nn.Sequential(
            torch.jit.trace(nn.Linear(2, 8), torch.zeros(2, 2)), NormalNet(8, 3, 8)
        )
    ),
    "compiled, by eager": lambda: model(decoder=torch.compile(net(2, 3), backend="eager")),
}


@pytest.mark.parametrize("name", NETS)
def test_a_net_of_any_kind(name, tmp_path):
    def make(target=0.3):
        with seeded(0):
            return NETS[name]()

    mae = make()
    x = X.to(next(mae.parameters()).dtype)
    before = [p.detach().clone() for p in mae.parameters()]
    history = fit(mae, x, steps=4, batch_size=8, progress=False)
    assert torch.tensor(history["elbo"]).isfinite().all() and all(m.training for m in mae.modules())
    moved = [not torch.equal(a, b) for a, b in zip(before, mae.parameters())]
    trained = [p.requires_grad for p in mae.parameters()]
    assert sum(moved) >= sum(trained) - 2
    assert not any(m for m, t in zip(moved, trained) if not t)
    assert torch.allclose(mae.encode(x[:1]).mean, mae.encode(x).mean[:1], atol=1e-6)
    found = mae.certificate(0.5, budget=2**10, explain=False)
    assert mae.still_certified == found
    first, again = (mae.information(k=2, n=20, seed=0) for _ in range(2))
    assert first == again
    mae.save(tmp_path)
    back = load(tmp_path, make)
    assert back.still_certified == found and torch.equal(back.encode(x).mean, mae.encode(x).mean)
    assert torch.equal(copy.deepcopy(mae).encode(x).mean, mae.encode(x).mean)


class Ring(Distribution):
    "A distribution with `log_prob` and `sample` alone."

    arg_constraints, support = {}, constraints.real_vector

    def __init__(self):
        super().__init__(torch.Size(), torch.Size((2,)), validate_args=False)

    def log_prob(self, z):
        return -2 * (z.norm(dim=-1) - 2) ** 2 - z.norm(dim=-1).clamp(min=1e-6).log() - 2.76

    def sample(self, shape=()):
        a, r = 6.2832 * torch.rand(shape), 2 + 0.5 * torch.randn(shape)
        return torch.stack([r * a.cos(), r * a.sin()], -1)


class Learns(nn.Module):
    "A prior of several numbers, computed from what it learns."

    def __init__(self):
        super().__init__()
        self.loc, self.log_sd = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

    def forward(self):
        return Independent(Normal(self.loc, self.log_sd.exp()), 1)


def parameter(*shape):
    return nn.Parameter(torch.arange(float(torch.Size(shape).numel())).view(shape) / 10)


def mixture_of(part, weights=None):
    "Three components of equal weight, or as given."
    weights = Categorical(torch.ones(3)) if weights is None else weights
    return MixtureSameFamily(weights, Independent(part, 1))


def flow():
    with validating(True):  # zuko's import turns it off, for everybody
        zuko = importlib.import_module("zuko")
    return zuko.flows.NSF(2, transforms=1, hidden_features=[8])


PRIORS = {  # and whether they learn
    "standard": (lambda: standard_normal(2), False),
    "log_prob and sample only": (Ring, False),
    "Laplace": (lambda: Independent(Laplace(torch.zeros(2), 1.0), 1), False),
    "Student": (lambda: Independent(StudentT(5.0, torch.zeros(2), 1.0), 1), False),
    "Gumbel": (lambda: Independent(Gumbel(torch.zeros(2), 1.0), 1), False),
    "full covariance": (
        lambda: MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]])),
        False,
    ),
    "low rank": (
        lambda: LowRankMultivariateNormal(torch.zeros(2), torch.ones(2, 1), torch.ones(2)),
        False,
    ),
    "mixture": (lambda: mixture_of(Normal(torch.randn(3, 2), 1.0)), False),
    "transformed": (
        lambda: TransformedDistribution(standard_normal(2), AffineTransform(torch.ones(2), 2.0)),
        False,
    ),
    "learnt mean": (lambda: Independent(Normal(parameter(2), 1.0), 1), True),
    "learnt centres": (lambda: mixture_of(Normal(parameter(3, 2), 1.0)), True),
    "one mean for all": (lambda: Independent(Normal(parameter(1), torch.ones(2)), 1), True),
    "learnt shift": (
        lambda: TransformedDistribution(standard_normal(2), AffineTransform(parameter(2), 2.0)),
        True,
    ),
    "a module": (Learns, True),
    "a flow": (flow, True),
    "a flow, called": (lambda: flow()(), True),
}


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_of_any_kind(name, tmp_path):
    prior, learns = PRIORS[name]

    def make(target=0.3):
        with seeded(0):
            return model(prior=prior(), target=target)

    mae = make()
    own = [*mae.prior_net.parameters()]
    before = [p.detach().clone() for p in own]
    assert bool(own) == learns and all(any(p is q for q in mae.parameters()) for p in own)
    fit(mae, X, steps=8, batch_size=8, progress=False)
    assert not learns or any(not torch.equal(a, b) for a, b in zip(before, own))
    found = mae.certificate(0.5, budget=2**10, explain=False)
    mae.save(tmp_path)
    back = load(tmp_path, make)
    z = torch.randn(5, 2)
    assert torch.equal(back.prior.log_prob(z), mae.prior.log_prob(z))
    assert back.still_certified == found
    if name != "Gumbel":
        # which torch itself does not copy
        assert torch.equal(copy.deepcopy(mae).prior.log_prob(z), mae.prior.log_prob(z))
    if name != "log_prob and sample only":  # whose numbers are its own
        wide = make().double()
        assert wide.information(k=2, n=20, seed=0).upper > -5
        assert wide.sample(2, seed=0).dtype == torch.float64
    # whose draws vmap cannot run
    alone = "log_prob and sample only", "a flow", "a flow, called", "low rank", "Laplace", "Gumbel"
    if name not in alone:
        runs = sweep(make, [0.2, 0.4], data=X, steps=3, batch_size=8, progress=False)
        before = make().prior.log_prob(z)
        assert all(
            not learns or not torch.equal(run.mae.prior.log_prob(z), before) for run in runs
        )


def test_the_constraint_does_not_move_a_prior():
    with seeded(0):
        mae = model(prior=Learns(), target=0.3)
    terms = mae(X)
    for part, reached in ((terms.information, False), (terms.bound, False), (terms.rate, True)):
        grads = torch.autograd.grad(
            part, list(mae.prior_net.parameters()), allow_unused=True, retain_graph=True
        )
        assert any(g is not None and g.abs().sum() > 0 for g in grads) == reached


@pytest.mark.parametrize(
    "prior, told",
    [
        (lambda: Normal(0.0, 1.0), "event shape"),
        (lambda: Independent(Normal(torch.zeros(3, 2), 1.0), 1), "batch shape (3,)"),
        (lambda: nn.Linear(2, 2), "forward() fails"),
        (lambda: "normal", "'normal'"),
        (lambda: Independent(Uniform(torch.zeros(2), 1.0), 1), "outside the prior's support"),
        (
            lambda: Independent(Normal(torch.zeros(2), parameter(2).exp()), 1),
            "computed from parameters",
        ),
        (
            lambda: mixture_of(Normal(torch.zeros(3, 2), 1.0), Categorical(logits=parameter(3))),
            "computed from parameters",
        ),
        (lambda: MultivariateNormal(parameter(2) * 2, torch.eye(2)), "computed from parameters"),
        (lambda: Independent(Normal(parameter(4)[:2], 1.0), 1), "computed from parameters"),
        (lambda: standard_normal(3), "fails on input of shape (2, 3)"),
    ],
)
def test_a_prior_that_does_not_fit(prior, told):
    with pytest.raises((ValueError, TypeError)) as e:
        model(prior=prior())
    assert told in str(e.value) and " got " in str(e.value), str(e.value)


@pytest.mark.parametrize(
    "likelihood", ["normal", "bernoulli", "rounded", ["normal", "bernoulli", 3]]
)
def test_ready_models_in_another_default_type(likelihood):
    torch.set_default_dtype(torch.float64)
    try:
        with seeded(0):
            mae = ready_mae(3, 0.2, likelihood, width=4, codes=8)
        fit(mae, mae.sample(20, seed=0), steps=2, progress=False)
        assert {p.dtype for p in mae.parameters()} == {torch.float64}
        assert mae.information(k=2, n=10).upper > -9
    finally:
        torch.set_default_dtype(torch.float32)


# the same shapes, other numbers
OTHERS = {
    "tanh": nn.Tanh(),
    "relu": nn.ReLU(),
    "gelu": nn.GELU(),
    "approximate gelu": nn.GELU("tanh"),
    "leaky": nn.LeakyReLU(0.1),
    "elu": nn.ELU(),
    "softplus": nn.Softplus(),
    "none": nn.Identity(),
    "mish": nn.Mish(),
    "sigmoid": nn.Sigmoid(),
    "a half": nn.Softshrink(0.1),
}


@pytest.mark.parametrize("which", ["encoder", "decoder", "infomax"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_certificate_is_not_put_onto_another_net(name, which, tmp_path):
    def make(target=0.3, act=None):
        with seeded(0):
            nets = [
                net(i, o, act if act and part == which else nn.SiLU())
                for part, (i, o) in zip(("encoder", "decoder", "infomax"), SIZES)
            ]
            return model(*nets, target=target)

    mae = make()
    fit(mae, X, steps=3, batch_size=8, progress=False)
    mae.certificate(0.5, budget=2**10, explain=False)
    mae.save(tmp_path)
    assert load(tmp_path, make).still_certified
    with pytest.raises(ValueError, match=f"make got a function whose models have another {which}"):
        load(tmp_path, lambda target: make(target, OTHERS[name]))


@pytest.mark.parametrize(
    "target", [-1.0, float("nan"), float("inf"), "two", 9.0, 2.31, True, [1.0], None]
)
def test_a_target_is_checked_wherever_it_is_set(target):
    mae = categorical_mae(1.0)
    if target is None:
        mae.target = None
        assert mae.target is None
        return
    with pytest.raises(ValueError, match="target got"):
        mae.target = target
    assert mae.target == 1.0
    with pytest.raises(ValueError, match="infomax got None"):
        MutualAutoencoder(mae.encoder, mae.decoder, mae.prior).target = 1.0


def test_a_report_leaves_the_certificate():
    with seeded(0):
        mae = model()
    fit(mae, X, steps=3, batch_size=8, progress=False)
    mine = mae.certificate(0.001, budget=2**10, explain=False)
    other = report(mae, X, k=2, tol=5.0)
    assert other.certificate.held and not mine.held and mae.still_certified == mine


class Clamped(NormalNet):
    "A net with a plain setting, that may be changed."

    def __init__(self, i, o):
        super().__init__(i, o, 8)
        self.most = 9.0

    def forward(self, a):
        return super().forward(a.clamp(-self.most, self.most))


def test_a_certificate_ends_with_a_setting_of_a_net(tmp_path):
    def make(target=0.3, most=9.0):
        with seeded(0):
            mae = model(decoder=Clamped(2, 3), target=target)
        mae.decoder.most = most
        return mae

    mae = make()
    found = mae.certificate(0.5, budget=2**10, explain=False)
    mae.save(tmp_path)
    assert mae.still_certified == found and load(tmp_path, make).still_certified == found
    mae.decoder.most = 8.0
    assert mae.still_certified is None
    told = "saved with another decoder.most; its certificate is left out"
    with pytest.warns(UserWarning, match=told):
        assert load(tmp_path, lambda target: make(target, 8.0)).still_certified is None


@pytest.mark.parametrize(
    "what",
    ["information", "certificate", "log_likelihood", "sample", "report", "repr", "elbo"],
)
def test_a_prior_is_measured_in_evaluation_mode(what):
    class Noisy(nn.Module):
        "A prior by a net with dropout and batch norm."

        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)
            )

        def forward(self):
            return Independent(Normal(self.net(1 + torch.arange(8.0).view(4, 2))[0], 1.0), 1)

    with seeded(0):
        mae = model(prior=Noisy())
    calls = {
        "information": lambda: mae.information(k=2, n=20, seed=0)[:3],
        "certificate": lambda: mae.certificate(0.5, budget=2**10, explain=False).interval[:3],
        "log_likelihood": lambda: mae.log_likelihood(X, k=2).tolist(),
        "sample": lambda: mae.sample(3, seed=0).tolist(),
        "report": lambda: report(mae, X, k=2)[:4],
        "repr": lambda: repr(mae),
        "elbo": lambda: mae.elbo(X).total.tolist(),
    }
    before = copy.deepcopy(mae.state_dict())
    found = []
    for _ in range(2):
        with seeded(0):
            found.append(calls[what]())
    after = mae.state_dict()
    assert found[0] == found[1] and all(torch.equal(before[k], after[k]) for k in before)
    assert all(m.training for m in mae.modules())


def test_lazy_layers_take_the_seed():
    def weights(seed):
        with seeded(seed):
            return model(Lazy(2), Lazy(3), Lazy(2)).encoder.first.weight

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))
