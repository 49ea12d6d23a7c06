"""What a GPU does with a model: for a machine that has one, and so no part of `make test`.

DEVICE names another device, such as cpu.
"""
import copy
import os
import warnings

import numpy as np
import pytest
import torch
from mae_nb.all import (
    Hold, categorical_mae, encoder_side, exact_information, fit, fit_proposal,
    importance_weighted, load, mutual_information, normal_mae, pixel_mae, ready_mae, report, seeded,
    sequence_mae, sweep, text_mae,
)
from mae_nb.remedies import Annealing, Capacity, ControlVAE, CyclicalAnnealing, FixedWeight
from mae_nb.remedies import FreeBits, FreeBitsEach, Held, LeastRate, PosterPenalty
from mae_nb.remedies_by_nets import BatchNormMeans, CommittedRate, LaggingEncoder
from torch.utils.data import DataLoader

DEVICE = torch.device(os.environ.get("DEVICE", "cuda"))
pytestmark = pytest.mark.filterwarnings("ignore:asked", "ignore:the model overfits",
                                        "ignore:.*not held", "ignore:.*validation")
QUIET = dict(progress=False)


def uniform(*shape):
    with seeded(0):
        return torch.rand(*shape)


def whole(high, *shape):
    with seeded(0):
        return torch.randint(high, shape)


def sentences(n):
    return torch.nn.functional.pad(1 + whole(8, n, 5), (0, 1))


NETS = {
    "normal": (lambda M: ready_mae(3, M), uniform(200, 3)),
    "a table": (lambda M: ready_mae(3, M, ["normal", "bernoulli", 4]),
                torch.stack([uniform(200), whole(2, 200), whole(4, 200)], 1).float()),
    "bits": (lambda M: ready_mae((8, 8), M, "bernoulli"), whole(2, 200, 8, 8).float()),
    "greys": (lambda M: ready_mae((8, 8), M, "rounded", levels=17), whole(17, 200, 8, 8)),
    "logistics": (lambda M: ready_mae((3, 8, 8), M, "logistics", width=4),
                  whole(256, 200, 3, 8, 8)),
    "categories": (lambda M: ready_mae(3, M, "categorical", levels=5), whole(5, 200, 3)),
    "double": (lambda M: ready_mae(3, M, dtype=torch.float64), uniform(200, 3).double()),
    "rate": (lambda M: ready_mae(3, M, of="rate", data=uniform(200, 3)), uniform(200, 3)),
    "data": (lambda M: ready_mae(3, M, of="data", data=uniform(200, 3)), uniform(200, 3)),
    "MADE": (lambda M: pixel_mae((4, 4), M, kernels=None), whole(2, 200, 4, 4).float()),
    "PixelCNN": (lambda M: pixel_mae((8, 8), M), whole(2, 200, 8, 8).float()),
    "greys by PixelCNN": (lambda M: pixel_mae((4, 4), M, "categorical", levels=5),
                          whole(5, 200, 4, 4)),
    "ten categories": (categorical_mae, None),
    "one normal": (normal_mae, None),
    "sequences": (sequence_mae, None),
    "words, LSTM": (lambda M: text_mae(9, 6, M), sentences(200)),
    "words, transformer": (lambda M: text_mae(9, 6, M, net="transformer"), sentences(200)),
}


def made(name, target=0.3):
    make, x = NETS[name]
    with seeded(0):
        mae = make(target).to(DEVICE)
    return mae, mae.data if x is None else x


def is_there(mae):
    "Is every tensor of the model on the device, and what the prior draws?"
    tensors = [*mae.parameters(), *mae.buffers(), mae.prior.sample()]
    return all(t.device.type == DEVICE.type for t in tensors)


@pytest.mark.parametrize("name", NETS)
def test_all_that_a_model_does(name, tmp_path):
    mae, x = made(name)
    fit(mae, x, steps=30, batch_size=32, **QUIET)
    assert is_there(mae)
    found = mae.certificate(.5, budget=2**12)
    again = mae.certificate(.5, budget=2**12)
    assert abs(found.interval.lower95 - again.interval.lower95) < 1e-3
    z = mae.encode(x[:5]).mean
    assert z.device.type == DEVICE.type and z.isfinite().all()
    assert mae.sample(4, seed=0).shape == mae.decode(z[:4]).sample().shape
    with seeded(0):
        assert mae.log_likelihood(x[:20], k=4).isfinite().all()
        assert importance_weighted(mae.check_data(x[:20]), mae.decoder, mae.prior, mae.encoder,
                                   4).isfinite().all()
    str(report(mae, x[:50], k=4, tol=.5))
    encoder_side(mae.check_data(x[:50]), mae.encoder, mae.prior, seed=0)
    mae.save(tmp_path)
    make, _ = NETS[name]
    back = load(tmp_path, make)
    assert next(back.parameters()).device.type == "cpu"
    there = back.to(DEVICE)
    assert is_there(there)
    torch.testing.assert_close(there.encode(x[:5]).mean, z)


@pytest.mark.parametrize("of", ["model", "data", "rate"])
def test_amounts_are_held(of):
    with seeded(0):
        mae = categorical_mae(1., of=of).to(DEVICE)
    fit(mae, steps=1500, seed=0, **QUIET)
    found = mae.certificate(.05)
    assert found.held and abs(exact_information(mae) - 1) < .06


def test_models_as_one():
    runs = sweep(lambda M: categorical_mae(M).to(DEVICE), [None, .5, 1.], range(2), steps=800,
                 **QUIET)
    for run in runs:
        assert is_there(run.mae)
        if run.target: assert abs(exact_information(run.mae) - run.target) < .03


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("compile", [False, True])
def test_precision_and_compiling(precision, compile):
    mae, x = made("bits")
    history = fit(mae, x, steps=20, batch_size=32, precision=precision, compile=compile, **QUIET)
    assert torch.tensor(history["elbo"]).isfinite().all()


def test_models_as_one_compiled():
    "Convolutions too, whose gradients a GPU sums in no fixed order, are recorded and compiled."
    def make(M): return ready_mae((8, 8), M, "bernoulli").to(DEVICE)
    x = NETS["bits"][1]
    runs = sweep(make, [.5, 1.], data=x, steps=20, batch_size=32, compile=True, **QUIET)
    assert all(is_there(run.mae) and np.isfinite(run.history["elbo"]).all() for run in runs)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16", "compiled"])
def test_a_loop_of_ones_own(kind):
    with seeded(0):
        mae = categorical_mae(1.).to(DEVICE)
    hold, optimiser = Hold(mae, 800), torch.optim.Adam(mae.parameters(), 3e-3)
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=kind == "float16")
    run, x = torch.compile(mae) if kind == "compiled" else mae, mae.data
    low = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(kind)
    with seeded(1):
        while hold.step < 800:
            some = x[torch.randint(len(x), (256,), device=x.device)]
            optimiser.zero_grad()
            with torch.autocast(DEVICE.type, low or torch.bfloat16, enabled=low is not None):
                loss = hold(run(some))
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
    assert abs(exact_information(mae) - 1) < .05


@pytest.mark.parametrize("pinned", [False, True])
def test_a_loader(pinned):
    mae, x = made("bits")
    if pinned and DEVICE.type != "cuda":
        pytest.skip("memory is pinned for a GPU")
    loader = DataLoader(x, 32, shuffle=True, num_workers=2, pin_memory=pinned)
    fit(mae, loader, steps=20, **QUIET)
    fit(mae, x.to(DEVICE), steps=20, **QUIET)
    fit(mae, x.numpy(), steps=20, **QUIET)
    report(mae, x.numpy().astype(np.float64), k=2, tol=1.)


def test_a_run_goes_on(tmp_path):
    "Cut short and taken up again, it ends where the whole run does."
    def numbers(mae): return torch.cat([p.detach().flatten() for p in mae.parameters()])
    (unbroken, x), (cut, _) = made("normal"), made("normal")
    how = dict(steps=60, batch_size=32, **QUIET)
    fit(unbroken, x, checkpoint=tmp_path/"unbroken", every=20, **how)

    def stop(look):
        if look.step == 40: raise KeyboardInterrupt
    try: fit(cut, x, checkpoint=tmp_path/"cut", every=20, callbacks=[stop], **how)
    except KeyboardInterrupt: pass
    again, _ = made("normal")
    fit(again, x, checkpoint=tmp_path/"cut", every=20, **how)
    torch.testing.assert_close(numbers(again), numbers(unbroken), rtol=1e-4, atol=1e-5)


def test_one_seed_gives_one_model():
    def numbers():
        mae, x = made("normal")
        fit(mae, x, steps=40, batch_size=32, seed=0, **QUIET)
        return torch.cat([p.detach().flatten() for p in mae.parameters()])
    torch.testing.assert_close(numbers(), numbers())


def test_a_proposal():
    mae, x = made("bits")
    fit(mae, x, steps=30, batch_size=32, **QUIET)
    net = copy.deepcopy(mae.infomax)
    fit_proposal(net, mae.decoder, mae.prior, steps=20)
    found = mutual_information(mae.decoder, mae.prior, net, k=16, n=200, seed=0)
    assert np.isfinite([found.lower95, found.upper95]).all()


def test_the_cpu_agrees():
    "The same model on both devices: certified information and likelihood."
    mae, x = made("bits", 1.)
    fit(mae, x, steps=200, batch_size=32, **QUIET)
    here = copy.deepcopy(mae).to("cpu")
    with seeded(0): there = mae.log_likelihood(x, k=256).mean().item()
    with seeded(0): likelihood = here.log_likelihood(x, k=256).mean().item()
    assert abs(likelihood - there) < .02
    a, b = (m.certificate(.05).interval for m in (mae, here))
    assert a.lower95 < b.upper95 and b.lower95 < a.upper95


REMEDIES = {
    "fixed": lambda x: FixedWeight(2.), "annealing": lambda x: Annealing(.5, 30),
    "cyclical": lambda x: CyclicalAnnealing(2, .5, 30), "free bits": lambda x: FreeBits(1.),
    "each": lambda x: FreeBitsEach(1.), "capacity": lambda x: Capacity(1., 10., .5, 30),
    "ControlVAE": lambda x: ControlVAE(1.), "MDR": lambda x: LeastRate(1.),
    "penalty": lambda x: PosterPenalty(1.), "held": lambda x: Held(1.),
    "held rate": lambda x: Held(1., "rate"), "held data": lambda x: Held(1., "data"),
    "BN": lambda x: BatchNormMeans(1.), "delta": lambda x: CommittedRate(1.),
    "lagging": lambda x: LaggingEncoder(x),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_remedies(name):
    mae, x = made("bits", None)
    with seeded(0):
        model = REMEDIES[name](x.to(DEVICE)).applied(mae).to(DEVICE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(model, x, steps=30, batch_size=32, **QUIET)
    assert is_there(model)
    assert model.elbo(x[:10]).rate.isfinite().all()
