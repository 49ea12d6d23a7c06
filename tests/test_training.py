"What the chapters on training do not show: each fails when one line of them is wrong."
import copy
import dataclasses
import inspect
import shutil
import warnings
from functools import partial

import mae_nb.training.resume
import mae_nb.training.run
import mae_nb.training.tape
import numpy as np
import pytest
import torch
import torch.distributions.normal
from mae_nb.control import PIMultiplier, controller_of, learning_rate
from mae_nb.context import seeded
from mae_nb.elbo import annealed
from mae_nb.files import Pace
from mae_nb.models import categorical_mae, normal_mae, ready_mae
from mae_nb.nets import standard_normal
from mae_nb.mae import MutualAutoencoder
from mae_nb.nets import CategoricalNet, NormalNet, mlp
from mae_nb.train import TrainingDiverged, _warn_if_overfit, fit, sweep
from mae_nb.training.feed import Feed, data_for
from mae_nb.training.history import TensorBoard
from mae_nb.training.how import How
from mae_nb.training.machine import training_settings
from mae_nb.training.members import Lone, Stack
from mae_nb.training.hold import Hold
from mae_nb.training.step import Training, _ascent
from torch import nn
from torch.distributions import Independent, Normal, Poisson
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset

TEN = torch.arange(10)


def flat(mae): return torch.cat([p.detach().flatten() for p in mae.parameters()])


def with_activation(target, act):
    mae = normal_mae(target)
    mae.decoder.net = mlp(1, 2, act=act)
    return mae


def parameters(**kwargs):
    "The decoder's parameters after twenty steps from the same start."
    with seeded(1): mae = categorical_mae(.5)
    fit(mae, steps=20, progress=False, **kwargs)
    return torch.cat([p.detach().flatten() for p in mae.decoder.parameters()])


def test_each_member_sees_every_datum_in_an_order_of_its_own():
    feed = Feed(categorical_mae(.5), TEN, 5, members=2)
    with seeded(0): seen = torch.cat([next(feed), next(feed)], 1)
    assert_close(seen.sort(1).values, TEN.expand(2, 10))
    assert not torch.equal(*seen)


def test_gradients_are_shortened_by_net_and_member(monkeypatch):
    maes = [categorical_mae(1.), categorical_mae(1.)]
    pair, hold = Stack(maes), Hold(maes)
    long = [torch.stack([torch.full_like(p[0], .001), torch.ones_like(p[0])]) for p in pair.trained]
    monkeypatch.setattr(pair, "gradient", lambda value, trained: long)
    with training_settings(1):
        given = pair.trained, pair.fixed, hold.state, torch.ones(2), torch.tensor(
            1.), torch.tensor(1.)
        grads, ok, row, state = _ascent(pair, hold, TEN.expand(2, 10), *given)
    for g in grads: assert_close(g.norm(dim=1), torch.tensor([.001*g.shape[1]**.5, 1.]))
    assert ok.all() and row.shape == (2, 7) and state.keys() == {"multiplier", "past"}


@pytest.mark.parametrize("make", [partial(categorical_mae, .5), partial(normal_mae, None)])
def test_a_lone_model_has_the_gradient_of_its_objective(make):
    with seeded(0): mae = make()
    lone, hold = Lone(mae), Hold(mae)
    x = mae.data[None, :50]
    with training_settings(1):
        given = lone.trained, lone.fixed, hold.state, torch.ones(1), torch.tensor(
            .7), torch.tensor(1.)
        with seeded(1): grads, *_ = _ascent(lone, hold, x, *given)
        with seeded(1): terms = mae(x[0])
    # the coefficient of the first step is zero
    value = terms.reconstruction - .7*terms.rate + (terms.bound if mae.target else 0.)
    for g, net in zip(grads, (mae.encoder, mae.decoder, mae.infomax)):
        own = torch.cat([p.flatten()
                         for p in torch.autograd.grad(value, list(net.parameters()),
                                                      retain_graph=True)])
        assert_close(g[0], own/max(1., own.norm().item()))
    lone.write_back(lone.trained)
    # nothing is shared any more
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in mae.parameters())


def test_a_recorded_step_is_the_step_itself(monkeypatch):
    def trained():
        return torch.stack([flat(run.mae)
                            for run in sweep(categorical_mae, [.5, 1.], steps=30, progress=False)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shortened = trained()
        monkeypatch.setattr(mae_nb.training.tape, "_shortened", lambda tape, *_: tape)
        recorded = trained()
        # never the same: nothing is recorded
        monkeypatch.setattr(mae_nb.training.tape, "python_state", lambda mae: object())
        assert torch.equal(recorded, trained())
        assert_close(shortened, recorded, rtol=0, atol=1e-4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch's compiler needs g++")
def test_a_compiled_step_is_the_step_itself():
    def trained(compile):
        return flat(sweep(normal_mae, [None], [0, 1], steps=20, progress=False,
                          compile=compile)[1].mae)
    assert_close(trained(True), trained(False), rtol=0, atol=1e-4)


def test_a_sampler_that_refuses_nan_stops_only_its_own_member():
    class Counts(nn.Module):
        "A Poisson decoder whose rate is not a number once it has moved too far."
        def __init__(self, limit):
            super().__init__()
            self.net = mlp(1, 1)
            self.register_buffer("limit", torch.tensor(limit))
            nn.init.zeros_(self.net[-1].bias)
        def forward(self, z):
            rate = self.net(z)[:, 0].exp()
            return Poisson(torch.where(self.net[-1].bias.abs() > self.limit, torch.nan, rate))
    class Normals(NormalNet):
        def forward(self, x): return super().forward(x[:, None])
    def make(target):
        decoder = Counts(.01 if target == .1 else 100.)
        return MutualAutoencoder(Normals(1, 1), decoder, standard_normal(), Normals(1, 1), target,
                                 k=2, codes=8, data=torch.arange(4.))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs = sweep(make, [.1, .2], steps=60, progress=False)
    assert any("Target 0.1, seed 0: failed at step" in str(w.message) for w in caught)
    assert len(runs[0].history) < 60 == len(runs[1].history) and all(
        p.isfinite().all() for run in runs for p in run.mae.parameters())


def test_members_that_differ_unseen_are_refused():
    shared, priors = normal_mae(.5).encoder, iter([standard_normal(),
                                                   Independent(Normal(torch.zeros(1), 2.), 1)])
    def with_prior(target):
        mae = normal_mae(target)
        return MutualAutoencoder(mae.encoder, mae.decoder, next(priors), mae.infomax, target,
                                 data=mae.data)
    def with_shared(target):
        mae = normal_mae(target)
        mae.encoder = shared
        return mae
    def with_data(target):
        mae = normal_mae(target)
        mae.data = mae.data + target
        return mae
    def with_frozen(target):
        mae = normal_mae(target)
        mae.decoder.requires_grad_(target < .7)
        return mae
    for make, what in [(with_prior, "prior"), (with_shared, "share encoder"), (with_data, "data"),
                       (with_frozen, "trained in the first")]:
        with pytest.raises(ValueError, match=what): sweep(make, [.5, 1.], steps=1, progress=False)
    with pytest.raises(TypeError, match="make_mae got a function that returns a Linear"):
        sweep(lambda target: nn.Linear(1, 1), [.5])
    with pytest.raises(ValueError, match="kl_weight got nan"):
        fit(normal_mae(), steps=1, kl_weight=lambda progress: float("nan"), progress=False)


def test_noise_from_outside_torch_is_drawn_at_every_step():
    noise, drawn = np.random.default_rng(0), []
    class Noisy(NormalNet):
        def forward(self, z):
            drawn.append(noise.normal())
            return super().forward(z + drawn[-1])
    def make(target):
        mae = normal_mae(target)
        mae.decoder = Noisy(1, 1)
        return mae
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sweep(make, [.5, 1.], steps=30, progress=False)
    assert len(drawn) > 60


def test_a_failed_member_gets_back_its_buffers_too():
    class Breaks(nn.Module):
        "An encoder with a running mean; NaN once its weights have moved too far."
        def __init__(self, limit):
            super().__init__()
            self.norm, self.net = nn.BatchNorm1d(1), NormalNet(1, 1)
            self.register_buffer("limit", torch.tensor(limit))
        def forward(self, x):
            return self.net(self.norm(torch.where((self.norm.weight - 1).abs() > self.limit,
                                                  torch.nan, x)))
    def make(target):
        mae = normal_mae(target)
        mae.encoder = Breaks(.01 if target == .5 else 100.)
        return mae
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        broken, sound = (run.mae.encoder.norm
                         for run in sweep(make, [.5, 1.], steps=200, progress=False))
        with pytest.raises(TrainingDiverged): fit(lone := make(.5), steps=200, progress=False)
    assert all(norm.running_mean.isfinite() and norm.running_var.isfinite()
               for norm in (broken, sound, lone.encoder.norm))
    assert broken.num_batches_tracked < sound.num_batches_tracked


def test_a_loader_may_feed_nets_that_need_their_memory_in_order():
    class Smoothed(NormalNet):
        def forward(self, x): return super().forward(nn.functional.avg_pool1d(x[:, None], 2)[:, 0])
    data = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    def make(target):
        return MutualAutoencoder(Smoothed(1, 1), NormalNet(1, 2), standard_normal(),
                                 NormalNet(2, 1), target, data=data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # the last batch of a pass is smaller
        runs = sweep(make, [.1, .2], data=torch.utils.data.DataLoader(data, batch_size=25), steps=7,
                     progress=False)
    assert all(len(run.history) == 7 for run in runs)


def test_learning_rate_rises_stays_and_falls():
    assert [round(learning_rate(p), 3) for p in (0., .02, .2, .65, 1.)] == [.01, .41, 1., .5, 0.]


def test_first_step_moves_what_has_a_gradient_by_lr():
    with seeded(1): mae = categorical_mae(.5, k=0)
    before = copy.deepcopy(mae)
    fit(mae, TEN, steps=1, lr=.1, progress=False)
    moved = {net: max((a - b).abs().max().item()
                      for a, b in zip(getattr(mae, net).parameters(),
                                      getattr(before, net).parameters()))
             for net in ("encoder", "decoder", "infomax")}
    assert_close(moved["decoder"], .1*learning_rate(0.), rtol=1e-3, atol=0)
    assert moved["infomax"] > 0


def test_parameters_kept_are_the_mean_of_the_last_quarter():
    class Watched(CategoricalNet):
        "Remembers its bias at each step."
        seen: list
        def forward(self, z):
            self.seen.append(self.net[0].bias.detach().clone())
            return super().forward(z)
    with seeded(0):
        mae = categorical_mae()
        decoder = Watched(1, 10)
        decoder.seen = []
        mae = MutualAutoencoder(mae.encoder, decoder, mae.prior)
    fit(mae, TEN, steps=12, lr=.1, progress=False)
    p10, p11 = decoder.seen[-2:]
    assert (decoder.net[0].bias - (p10 + 2*p11)/3).abs().max() <= .1*learning_rate(11/12)/3 + 1e-6


def test_histories_are_each_members_own():
    for run in sweep(categorical_mae, [.4, .8], steps=30, progress=False):
        assert_close(run.history["elbo"], run.history["reconstruction"] - run.history["rate"])
        assert run.history["asked"][0] == 0 and abs(run.history["asked"][-1] - run.target) < 1e-6
        assert run.history["multiplier"][-1] > .1


def test_sweep_of_one_is_a_fit():
    how = {"steps": 20, "batch_size": 16, "lr": .01, "kl_weight": 2., "progress": False, "clip": .3,
           "hold_from": .1, "optimiser": torch.optim.RMSprop}
    run, = sweep(categorical_mae, [.5], seeds=[1], **how)
    with seeded(1): alone = categorical_mae(.5)
    fit(alone, seed=1, **how)
    for a, b in zip(run.mae.parameters(), alone.parameters()): assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("change",
                         [{"batch_size": 16}, {"lr": .01}, {"kl_weight": 2.},
                          {"kl_weight": annealed(.5)}, {"seed": 5},
                          {"clip": .1}, {"hold_from": .5}, {"precision": "bfloat16"},
                          {"optimiser": torch.optim.SGD}])
def test_every_argument_of_fit_matters(change):
    assert torch.equal(parameters(), parameters())
    assert not torch.equal(parameters(), parameters(**change))


def test_plain_and_targeted_members_keep_their_places():
    runs = sweep(categorical_mae, [.5, None], steps=2, progress=False)
    found = [(r.target, r.mae.target, "asked" in r.history.keys()) for r in runs]
    assert found == [(.5, .5, True), (None, None, False)]


def test_a_failing_member_is_named_and_the_others_finish():
    def make(target):
        mae = categorical_mae(target)
        if target == 1.: nn.init.constant_(mae.decoder.net[0].bias, float("nan"))
        return mae
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        good, _ = sweep(make, [.5, 1.], steps=60, progress=False)
    assert any("Target 1.0, seed 0: failed at step 0" in str(w.message) for w in told)
    assert all(p.isfinite().all() for p in good.mae.parameters()) and len(good.history) == 60


def test_every_member_may_fail_at_once():
    class Breaks(CategoricalNet):
        "A decoder whose logits are NaN in training."
        def forward(self, z):
            logits = super().forward(z).logits*(float("nan") if self.training else 1.)
            return torch.distributions.Categorical(logits=logits)
    def make(target):
        mae = categorical_mae(target)
        return MutualAutoencoder(mae.encoder, Breaks(1, 10), mae.prior, mae.infomax, target,
                                 data=TEN)
    with pytest.warns(UserWarning, match="failed at step 0"):
        runs = sweep(make, [.5, 1.], steps=3, progress=False)
    assert [len(r.history) for r in runs] == [0, 0]


def test_a_gradient_that_breaks_at_the_last_step_is_said():
    class Late(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a): return a.clone()
        @staticmethod
        def backward(ctx, g): return g*float("nan")
    class Net(CategoricalNet):
        def forward(self, z): return super().forward(Late.apply(z) if z.requires_grad else z)
    mae = categorical_mae()
    mae = MutualAutoencoder(mae.encoder, Net(1, 10), mae.prior)
    with pytest.raises(TrainingDiverged): fit(mae, TEN, steps=1, progress=False)
    assert all(p.isfinite().all() for p in mae.parameters())


def test_control_is_the_one_asked_for():
    history = fit(categorical_mae(1., control="penalty"), TEN, steps=5, progress=False)
    assert set(np.abs(history["multiplier"])) == {5.}


def test_settings_are_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        parameters()
        assert (torch.get_num_threads() == 2
                and torch.distributions.normal._standard_normal.__name__ == "_standard_normal")
        assert torch.distributions.Distribution._validate_args
    finally: torch.set_num_threads(before)


def test_models_of_unlike_structure_or_settings_are_refused():
    with pytest.raises(ValueError, match="differs in decoder"):
        sweep(lambda t: categorical_mae(t, width=int(100*t)), [.5, 1.])
    with pytest.raises(ValueError, match="differs in codes"):
        sweep(lambda t: normal_mae(t, codes=int(10*t)), [.5, 1.])
    with pytest.raises(ValueError, match="differs in decoder.net.1"):
        sweep(lambda t: with_activation(t, nn.Tanh if t > .6 else nn.ReLU), [.5, 1.])


def test_equal_members_have_noise_of_their_own():
    twins = Stack([categorical_mae(.5)]*2)
    with training_settings(1): terms = twins.terms(twins.trained, twins.fixed, TEN.expand(2, 10))
    assert terms.reconstruction[0] != terms.reconstruction[1]


def test_progress_is_silent_when_off(capsys):
    fit(categorical_mae(.5), steps=5, progress=False)
    assert capsys.readouterr().err == ""
    history = fit(categorical_mae(.5), steps=5)
    shown = f"I {history['information'][-1]:.4f} of {history['asked'][-1]:.4f} nats"
    assert shown in capsys.readouterr().err


class Rows(Dataset):
    "Rows that are made when asked for, as if read from a disk."
    def __len__(self): return 200
    def __getitem__(self, i): return torch.full((1,), i/100 - 1), "a label"


@pytest.mark.parametrize("data",
                         [Rows(), DataLoader(Rows(), batch_size=50, shuffle=True, num_workers=2)])
def test_data_may_be_read_row_by_row_and_by_workers(data):
    mae = normal_mae(None)
    history = fit(mae, data, steps=12, batch_size=50, validation=Rows(), every=5, progress=False)
    assert len(history) == 12 and history.looks["step"].tolist() == [5, 10,
                                                                     12] and np.isfinite(
                                                                         history.looks[
                                                                             "validation"]).all()


def test_a_look_changes_nothing():
    plain, watched = (parameters(),
                      parameters(validation=TEN, every=3,
                                 callbacks=[lambda look: look.mae.sample(3)], stop=.01))
    assert torch.equal(plain, watched)


def test_a_callback_stops():
    with seeded(1): mae = categorical_mae(.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = fit(mae, steps=50, every=10, callbacks=[lambda look: look.step == 20],
                      progress=False)
    assert len(history) == 20


def test_tensorboard_gets_every_look(tmp_path):
    with seeded(1): mae = categorical_mae(None)
    fit(mae, steps=20, every=10, callbacks=[TensorBoard(tmp_path)], progress=False)
    log, = tmp_path.glob("events*")
    assert log.stat().st_size > 200


def test_fit_and_sweep_show_the_fields_of_how():
    shown = inspect.signature(fit).parameters
    assert [f.name for f in dataclasses.fields(How)] == [*shown][2:]
    assert all(shown[f.name].default == f.default
               and shown[f.name].kind == inspect.Parameter.KEYWORD_ONLY
               for f in dataclasses.fields(How))
    refused = shown.keys() - inspect.signature(sweep).parameters.keys() - {"mae", "data"}
    assert refused == {"seed", "validation", "every", "stop", "callbacks", "checkpoint"}
    for name in refused:
        with pytest.raises(TypeError, match=f"{name} got a int in `sweep`, but takes"):
            sweep(categorical_mae, [.5], **{name: 1})
    for call in (lambda: fit(categorical_mae(), step=1), lambda: sweep(categorical_mae, [.5],
                                                                       step=1)):
        with pytest.raises(TypeError, match="got the keyword 'step', but takes steps, batch_size"):
            call()
    with pytest.raises(TypeError, match="positional"): fit(categorical_mae(), TEN, 10)


def test_a_controller_with_other_settings_is_another_training():
    def multipliers(control):
        with seeded(1): mae = categorical_mae(1.)
        mae.control = control
        return fit(mae, TEN, steps=20, progress=False)["multiplier"]
    assert np.array_equal(multipliers("pi"), multipliers(controller_of("pi")))
    assert not np.array_equal(multipliers("pi"), multipliers(PIMultiplier(rate=.1)))


def overfitting(tmp_path=None, seed=0, callbacks=()):
    "Parameters, looks and steps of a call whose training overfits, and is begun anew."
    with seeded(0): rows = torch.randn(60, 12)@torch.randn(12, 12)/3
    with seeded(seed): mae = ready_mae(12, None, width=128)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = fit(mae, rows, steps=300, every=5, lr=.03, validation=.3, progress=False,
                      checkpoint=tmp_path, callbacks=callbacks)
    # the infomax net of a plain VAE is not trained
    return torch.cat([flat(mae.encoder), flat(mae.decoder)]), history


def test_a_run_that_is_begun_anew_continues_in_whichever_part_it_was_killed(
        tmp_path, monkeypatch):
    # saves from the first step on
    monkeypatch.setattr(mae_nb.training.resume, "Pace", partial(Pace, share=.3, first=0.))
    class Killed(Exception): pass
    looks, kills = [], {3, 25, 40}
    def dies(look):
        looks.append(look.step)
        if len(looks) in kills: raise Killed
    whole, history = overfitting(callbacks=[lambda look: looks.append(look.step)])
    assert history.tried and len(history) < len(history.tried[0]) <= 150
    assert 40 < len(looks)
    looks.clear()
    for seed in range(4):
        try: again, continued = overfitting(tmp_path, seed, [dies])
        except Killed: continue
    assert torch.equal(whole, again) and [*tmp_path.glob("whole-*")]
    for name, series in history.looks.items(): assert np.array_equal(series, continued.looks[name])
    assert len(looks) > 40
    # nothing is left to do
    looks.clear()
    again, _ = overfitting(tmp_path, 5, [dies])
    assert torch.equal(whole, again) and not looks


def test_a_callback_that_stops_ends_the_call():
    _, history = overfitting(callbacks=[lambda look: look.step == 20])
    assert len(history) == 20 and not history.tried


def test_the_parameters_that_validation_favours_are_kept_and_that_is_said(monkeypatch):
    monkeypatch.setattr(mae_nb.training.run, "overfits", lambda looks: False)
    with seeded(0): rows = torch.randn(60, 12)@torch.randn(12, 12)/3
    with seeded(0): mae, seen = ready_mae(12, None, width=128), []
    def note(look): seen.append((look.step, copy.deepcopy(dict(look.mae.named_parameters()))))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(mae, rows[:42], steps=300, every=10, lr=.03, validation=rows[42:],
                      callbacks=[note], progress=False)
    best = history.looks["validation"].argmax()
    said = [str(w.message) for w in caught]
    assert f"after step {history.looks['step'][best]:.0f} of 300" in said[0] and best < 29
    step, kept = seen[best]
    for name, p in mae.named_parameters(): assert torch.equal(p, kept[name])


@pytest.mark.parametrize("noise, says", [(.6, True), (.7, False)])
def test_what_is_not_generalised_is_said(noise, says):
    mae = normal_mae(None)
    run = Training([mae], data_for(mae, torch.randn(50, 1), 10, .2), How(steps=9))
    run.looks = [{"step": 0., "own": -1., "validation": -3., "noise": noise}]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _warn_if_overfit(run, [run], 9)
    assert [("aside is -3 nats" in str(w.message)) for w in caught] == [True]*says
