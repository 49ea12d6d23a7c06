"`Hold` and `TargetRate` in the loops that people write."
import copy
import io
import warnings
from functools import partial

import pytest
import torch
import torch.distributed as dist
from mae_nb.context import seeded
from mae_nb.mae import Terms
from mae_nb.models import categorical_mae, normal_mae, pixel_mae, ready_mae
from mae_nb.oracle import exact_information
from mae_nb.train import fit
from mae_nb.training.feed import Feed
from mae_nb.training.hold import Hold, TargetRate
from torch import nn

torch.set_num_threads(1)
BITS = torch.rand(64, 4, 4, generator=torch.Generator().manual_seed(0)).round()


def trained(mae, steps, optimiser=torch.optim.Adam, x=None, seed=0, parts=1, half=False, clip=True):
    "A model trained in a plain loop, the `Hold`, and the losses."
    hold = Hold(mae, steps*parts)
    optimiser = optimiser(mae.parameters(), lr=3e-3)
    x, losses = mae.data if x is None else x, []
    with seeded(seed):
        for _ in range(steps):
            optimiser.zero_grad()
            for _ in range(parts):
                batch = x[torch.randint(len(x), (128//parts,))]
                with torch.autocast("cpu", torch.bfloat16, enabled=half): loss = hold(mae(batch))
                (loss/parts).backward()
                losses.append(loss.item())
            if clip: nn.utils.clip_grad_norm_(mae.parameters(), 1.)
            optimiser.step()
    return hold, losses


@pytest.mark.parametrize("optimiser", [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam,
                                       partial(torch.optim.RMSprop, alpha=.95)])
def test_any_optimiser_holds(optimiser):
    with seeded(1): mae = categorical_mae(1.)
    trained(mae, 500, optimiser)
    assert abs(exact_information(mae) - 1) < .05


def test_accumulated_gradients_hold():
    with seeded(1): mae = categorical_mae(1.)
    hold, losses = trained(mae, 300, parts=2)
    assert hold.step == len(losses) == 600 and abs(exact_information(mae) - 1) < .05


@pytest.mark.parametrize("make", [partial(pixel_mae, (4, 4)),
                                  partial(ready_mae, (4, 4), likelihood="bernoulli")])
def test_half_precision_gives_a_loss_of_single_precision(make):
    with seeded(1): mae = make(.5)
    hold, losses = trained(mae, 5, x=BITS, half=True)
    assert hold.step == 5 and all(t.dtype == torch.float32 for t in hold.state.values())


def test_a_scaler_of_gradients_changes_nothing():
    def after(scaled):
        with seeded(1): mae = categorical_mae(1.)
        hold, optimiser = Hold(mae, 20), torch.optim.Adam(mae.parameters())
        scaler = torch.amp.GradScaler("cpu", enabled=scaled, init_scale=2.**8)
        with seeded(2):
            for _ in range(20):
                optimiser.zero_grad()
                scaler.scale(hold(mae(mae.data[:64]))).backward()
                scaler.step(optimiser)
                scaler.update()
        return torch.cat([p.detach().flatten() for p in mae.parameters()])
    torch.testing.assert_close(after(True), after(False), rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [categorical_mae, partial(pixel_mae, (4, 4)),
                                  partial(ready_mae, (4, 4), likelihood="bernoulli")])
def test_a_loop_takes_the_steps_of_fit(make):
    def begun():
        with seeded(3): return make(.5)
    mae, other = begun(), begun()
    x = BITS if mae.data is None else mae.data[:64]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few steps hold no target
        history = fit(mae, x, steps=20, batch_size=32, lr=lambda progress: 1e-3, validation=None,
                      progress=False, seed=4)
    hold, optimiser = Hold(other, 20), torch.optim.Adam(other.parameters(), 1e-3)
    seen = []
    with seeded(4):
        feed = Feed(other, x, 32, 1, torch.device("cpu"))
        for _ in range(20):
            optimiser.zero_grad()
            terms = other.train()(next(feed)[0])
            hold(terms).backward()
            # `fit` shortens the gradient of one net at a time
            for net in other.children(): nn.utils.clip_grad_norm_(net.parameters(), 1.)
            optimiser.step()
            seen.append(torch.stack([*terms]).detach())
    for i, name in enumerate(Terms._fields):
        expected, found = torch.tensor(history[name]), torch.stack(seen)[:, i]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(torch.tensor(history["asked"][-1]), hold.asked(19)[0])


def test_a_saved_state_is_plain_tensors():
    with seeded(0): mae = normal_mae(1.)
    hold, _ = trained(mae, 3)
    file = io.BytesIO()
    torch.save(hold.state_dict(), file)
    file.seek(0)
    again = Hold(mae, 3)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert again.step == 3 and again.state == hold.state
    assert not [*hold.parameters()] and not {*hold.state_dict()} & {*mae.state_dict()}
    assert copy.deepcopy(hold).step == 3


def test_several_models_have_a_state_each():
    hold = Hold([normal_mae(target) for target in (.5, 1.)], 10)
    assert hold.target.tolist() == [.5, 1.] and all(len(t) == 2 for t in hold.state.values())


@pytest.mark.parametrize("wrong, says", [
    ({"steps": 0}, "steps got 0"), ({"kl_weight": -1.}, "kl_weight got -1"),
    ({"hold_from": 1.}, "hold_from got 1"), ({"mae": nn.Linear(1, 1)}, "mae got a Linear")])
def test_a_bad_argument_is_named(wrong, says):
    with pytest.raises((ValueError, TypeError), match=says):
        Hold(**{"mae": normal_mae(1.)} | wrong)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1., 1e3])
def test_a_rate_is_found_on_any_scale(scale):
    # at a weight w, this rate is log(1 + scale/w)
    weigh, weight = TargetRate(3.), torch.tensor(1.)
    for _ in range(3000): weight = weigh(torch.log1p(scale/weight))
    assert abs(torch.log1p(scale/weight) - 3) < .01


def test_a_compiled_model_takes_the_same_steps():
    def losses(wrap):
        with seeded(1): mae = categorical_mae(1.)
        hold, optimiser, run = Hold(mae, 20), torch.optim.Adam(mae.parameters()), wrap(mae)
        with seeded(2):
            seen = []
            for _ in range(3):
                optimiser.zero_grad()
                loss = hold(run(mae.data[:64]))
                loss.backward()
                optimiser.step()
                seen.append(loss.item())
        return torch.tensor(seen)
    compiled = losses(partial(torch.compile, backend="eager"))
    torch.testing.assert_close(compiled, losses(lambda mae: mae), rtol=1e-4, atol=1e-4)


def test_fit_asks_no_other_process(monkeypatch):
    with seeded(0): mae = ready_mae((4, 4), .5, "bernoulli")
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "all_gather", None)
    history = fit(mae, BITS, steps=101, validation=None, progress=False)  # one correction
    assert len(history) == 101
