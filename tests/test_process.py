"Settings of the process are as before after each call, also after an error and in threads."

import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from mae_nb.all import (
    FlowNet, MutualAutoencoder, NormalNet, categorical_mae, exact_information, fit, fit_proposal,
    load, report, seeded, standard_normal, sweep,
)
from torch.distributions import Distribution, normal


def state() -> tuple:
    "All of it."
    return (
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.get_num_threads(),
        Distribution._validate_args,
        normal._standard_normal,
        signal.getsignal(signal.SIGINT),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.fixture(autouse=True)
def quiet():
    warnings.simplefilter("ignore")
    yield


def fail(*_):
    raise RuntimeError("on purpose")


def ten(target=1.0):
    return seeded_(lambda: categorical_mae(target))


def seeded_(f):
    with seeded(0):
        return f()


short = {"steps": 3, "progress": False}
CALLS = {
    "fit": lambda _: fit(ten(), **short),
    "fit, compiled by a recording": lambda _: sweep(categorical_mae, [0.5, 1.0], **short),
    "a fit that breaks": lambda _: fit(ten(), lr=1e30, steps=20, progress=False),
    "a callback that fails": lambda _: fit(ten(), **short, every=1, callbacks=[fail]),
    "a loader that fails": lambda _: fit(ten(),
                                         torch.utils.data.DataLoader(torch.arange(10), batch_size=2,
                                                                     collate_fn=fail), **short),
    "a run that is kept": lambda path: fit(ten(), **short, checkpoint=path),
    "a kept run that fails": lambda path: fit(ten(), **short, every=1, callbacks=[fail],
                                              checkpoint=path),
    "data refused": lambda _: fit(ten(), torch.tensor([10]), **short),
    "certificate": lambda _: ten().certificate(0.5, budget=2**10, explain=False),
    "information": lambda _: ten().information(k=2, n=20, seed=0),
    "report": lambda _: report(ten(), torch.arange(10), k=2),
    "save and load": lambda path: (ten().save(path), load(path)),
    "load refused": lambda path: load(path / "nowhere"),
    "sample": lambda _: ten().sample(3, seed=0),
    "sampling refused": lambda _: ten().sample(0),
    "a judge": lambda _: seeded_(lambda: fit_proposal(NormalNet(1, 1), NormalNet(1, 1),
                                                      standard_normal(1), steps=2, n=4)),
    "exact": lambda _: exact_information(ten()),
    "a flow": lambda _: seeded_(lambda: FlowNet(1, 1)),
    "bfloat16 refused": lambda _: fit(ten().double(), **short, precision="bfloat16"),
    "an empty sweep": lambda _: sweep(categorical_mae, []),
    "a maker that fails": lambda _: sweep(fail, [1.0], **short),
}


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_the_process_as_it_was(name, validate, tmp_path):
    Distribution.set_default_validate_args(validate)
    mine = signal.signal(signal.SIGINT, lambda *_: None)
    before = state()
    try:
        CALLS[name](tmp_path)
    except (RuntimeError, ValueError, FileNotFoundError, FloatingPointError):
        pass
    finally:
        after = state()
        Distribution.set_default_validate_args(True)
        signal.signal(signal.SIGINT, mine)
    assert after == before


def prints(seed: int) -> list:
    "What a few calls give, as numbers."
    with seeded(seed):
        mae = categorical_mae(1.0)
    history = fit(mae, steps=20 + 5 * seed, seed=seed, progress=False)
    return [
        mae.fingerprint()[1],
        history["elbo"].tolist(),
        mae.information(k=2, n=30, seed=seed)[:3],
        mae.sample(5, seed=seed).tolist(),
        report(mae, torch.arange(10), k=2, seed=seed)[:4],
    ]


def test_threads_give_what_one_thread_gives():
    before, alone = state(), [prints(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(prints, range(4))) == alone
    assert state() == before


def test_one_model_is_measured_by_several_threads():
    "Each would otherwise find the mode that another has set, and leave it behind."
    with seeded(0):
        mae = MutualAutoencoder(torch.nn.Sequential(torch.nn.Dropout(0.5), NormalNet(3, 2)),
                                NormalNet(2, 3), standard_normal(2))
    x, barrier = torch.ones(4, 3), threading.Barrier(4)
    expected = mae.encode(x).mean

    def encode(_):
        barrier.wait()
        return [mae.encode(x).mean for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        found = [mean for means in pool.map(encode, range(4)) for mean in means]
    assert all(torch.equal(mean, expected) for mean in found) and all(m.training
                                                                      for m in mae.modules())


def test_a_failing_thread_lets_the_others_go_on():
    def run(seed):
        if seed == 1:
            with pytest.raises(ValueError):
                fit(categorical_mae(1.0), torch.tensor([10]), steps=1, progress=False)
            return None
        return prints(seed)

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(run, range(3)))
    assert found == [prints(0), None, prints(2)]
