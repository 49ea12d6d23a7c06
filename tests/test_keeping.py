"""Nothing that was saved is lost, and nothing that is loaded runs.

Runs are killed by the hundred, disks are full, bits are flipped, and files come from an enemy.
"""
import builtins
import errno
import json
import math
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import filelock
import mae_nb.train
import mae_nb.training.resume
import pytest
import torch
from mae_nb import files
from mae_nb.certificate import Certificate
from mae_nb.context import seeded
from mae_nb.models import categorical_mae, normal_mae
from mae_nb.nets import standard_normal
from mae_nb.files import Checkpoints, Pace, _seal_of, write_whole
from mae_nb.models import ready_mae
from mae_nb.infomax import Interval
from mae_nb.loading import load
from mae_nb.mae import MutualAutoencoder
from mae_nb.nets import NormalNet
from mae_nb.train import TrainingDiverged, fit
from mae_nb.training.step import Training
from torch import nn
from torch.distributions import Independent, Normal
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"),
                                reason="kills need processes that start in no time")
CHILDREN = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else None)
CHILDREN.set_forkserver_preload(["mae_nb.train", "mae_nb.heads", "safetensors.torch", "filelock",
                                 "pytest", "matplotlib.pyplot", "torch._dynamo"])
KINDS = "noise", "loader", "looks"
DATA = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))


class Noisy(nn.Module):
    "A decoder with running moments."
    def __init__(self, width):
        super().__init__()
        self.first, self.norm = nn.Linear(2, width), nn.BatchNorm1d(width)
        self.net = NormalNet(width, 4, width)
    def forward(self, z): return self.net(self.norm(self.first(z)))


def model(target=.5, width=8, prior=None, sd=None):
    "A small model that draws codes, proposals and dropout, and whose buffers training changes."
    with seeded(1):
        decoder = Noisy(width) if sd is None else NormalNet(2, 4, width, sd)
        return MutualAutoencoder(nn.Sequential(nn.Dropout(.2), NormalNet(4, 2, width)), decoder,
                                 prior or standard_normal(2), NormalNet(4, 2, width),
                                 target, k=2, codes=32)


def call(kind, steps=60):
    "The arguments of `fit` for each kind of run."
    if kind == "loader":
        return {"data": DataLoader(TensorDataset(DATA), 32, shuffle=True,
                                   generator=torch.Generator().manual_seed(7)), "steps": steps}
    how = {"data": DATA, "steps": steps, "batch_size": 32, "validation": None}
    return how if kind == "noise" else how | {"validation": .2, "every": 10,
                                              "callbacks": [lambda look: torch.rand(3).sum() < 0]}


def ends(mae, history):
    "All that a run ends with, as bytes."
    weights = {name: t.detach().numpy() for name, t in mae.state_dict().items()}
    return {name: a.tobytes()
            for name, a in (*weights.items(), *history.series.items(), *history.looks.items())}


def run(how, mae=None, ignore=True, **kwargs):
    mae = mae or model()
    with warnings.catch_warnings():
        if ignore: warnings.simplefilter("ignore", UserWarning)
        return ends(mae, fit(mae, progress=False, **how, **kwargs))


def slow(function, pause):
    def waits(*args):
        time.sleep(pause)
        return function(*args)
    return waits


def child(tell, kind, folder, result, pause):
    "One call of `fit` in a process of its own, which saves as often as it can."
    torch.set_num_threads(1)
    mae_nb.train._warn_if_missed = lambda *args, **kwargs: None
    mae_nb.training.resume.Pace = partial(Pace, share=.3 if not pause else .8, first=0.)
    if pause: os.fsync = slow(os.fsync, pause)
    tell.send("begins")
    result.write_bytes(pickle.dumps(run(call(kind), checkpoint=folder)))


def start(target, *args):
    "A process, and what it tells first."
    here, there = CHILDREN.Pipe(duplex=False)
    process = CHILDREN.Process(target=target, args=(there, *args))
    process.start()
    there.close()
    here.recv()
    return process


@pytest.fixture(scope="module", autouse=True)
def quick():
    "One thread, no measuring of what a short run missed."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(mae_nb.train, "_warn_if_missed", lambda *args, **kwargs: None)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(quick):
    "What short runs of each kind end with when nothing happens."
    return {kind: run(call(kind, 40)) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_at_random_moments_ends_as_if_nothing_had_happened(kind, tmp_path):
    draw, expected = random.Random(kind), run(call(kind))
    kills = half = early = attempt = finished = 0
    result = tmp_path/"result"
    while kills < 17 or attempt:
        folder, pause = tmp_path/f"run {finished}", (.1, .1, .015,
                                                     0.)[min(attempt, 2 + attempt % 2)]
        process = start(child, kind, folder, result, pause)
        if kills == 17: process.join()                                        # the last run may end
        # the second kill comes while a state is written, the first before there is any
        elif attempt == 1:
            while process.is_alive() and not [*folder.glob(".*.part")]: time.sleep(.001)
        else: process.join(draw.uniform(0, .02) if attempt == 0 else draw.uniform(.02, .22))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills, attempt = kills + 1, attempt + 1
            half, early = (half + bool([*folder.glob(".*.part")]), early
                           + (not [*folder.glob("state-*")]))
            continue
        assert process.exitcode == 0 and pickle.loads(result.read_bytes()) == expected
        result.unlink()
        finished, attempt = finished + 1, 0
    print(f"{kind}: {kills} kills, {half} in the midst of writing, {early} before the first state, "
          f"{finished} runs, none lost")
    assert half and early and finished


def die_before(n):
    "Kill this process before its n-th operation on files; of what is written, half arrives."
    left = [n]
    def count():
        left[0] -= 1
        if not left[0]: os.kill(os.getpid(), signal.SIGKILL)
    def counted(function):
        def counts(*args, **kwargs):
            count()
            return function(*args, **kwargs)
        return counts
    for owner, name in [(os, "fsync"), (os, "replace"), (os, "open"), (os, "close"),
                        (Path, "unlink"), (Path, "mkdir")]:
        setattr(owner, name, counted(getattr(owner, name)))
    class Half:
        def __init__(self, *args):
            count()
            self.file = builtins.open(*args)
        def __enter__(self): return self
        def __exit__(self, *error):
            count()
            self.file.close()
        def __getattr__(self, name): return getattr(self.file, name)
        def write(self, content):
            self.file.write(content[:len(content)//2])
            self.file.flush()
            count()
            self.file.write(content[len(content)//2:])
    files.open = Half


def write(what, folder, version):
    "The old or the new version of a file, a model or a state."
    if what == "file": write_whole(folder/"file", version*b"content")
    elif what == "state":
        Checkpoints(folder).save(version, {"t": torch.full((9,), float(version))}, version)
    else:
        mae = ready_mae(3, .5, latents=1, width=4)
        with torch.no_grad(): [p.fill_(version) for p in mae.parameters()]
        mae.save(folder)


def version_of(what, folder):
    "Which version is there."
    if what == "file": return len((folder/"file").read_bytes())//len(b"content")
    if what == "state": return Checkpoints(folder).latest()[1]
    return int(next(load(folder).parameters()).flatten()[0])


def write_and_die(tell, what, folder, n):
    torch.set_num_threads(1)
    die_before(n)
    tell.send("begins")
    write(what, folder, 3)


@pytest.mark.parametrize("what", ["file", "state", "model"])
def test_a_kill_between_any_two_operations_leaves_the_old_or_the_new(what, tmp_path):
    seen = []
    for n in range(1, 60):
        folder = tmp_path/str(n)
        for version in (1, 2)[what != "state":]: write(what, folder, version)
        process = start(write_and_die, what, folder, n)
        process.join()
        # what is there is whole,
        seen.append(version_of(what, folder))
        # and can be written over
        write(what, folder, 4)
        assert version_of(what, folder) == 4
        if process.exitcode == 0: break
        assert process.exitcode == -signal.SIGKILL
    assert seen == sorted(seen) and seen[0] == 2 and seen[-1] == 3 and len(seen) > 7


class Full:
    "A file on a disk that is full after `room` files."
    room = 0
    def __init__(self, *args): self.file = builtins.open(*args)
    def __enter__(self): return self
    def __exit__(self, *error): self.file.close()
    def __getattr__(self, name): return getattr(self.file, name)
    def write(self, content):
        type(self).room -= 1
        if self.room < 0:
            self.file.write(content[:5])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.file.write(content)


def fails(number):
    def failing(*args, **kwargs): raise OSError(number, os.strerror(number))
    return failing


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("owner, name",
                         [(os, "fsync"), (os, "replace"), (files, "open"), (Path, "mkdir")])
def test_a_write_that_fails_says_which_file_and_leaves_the_old_one(owner, name, number, monkeypatch,
                                                                   tmp_path):
    write_whole(tmp_path/"file", b"old")
    with monkeypatch.context() as m:
        m.setattr(owner, name, fails(number), raising=False)
        with pytest.raises(OSError,
                           match=r"file could not be written \(.+\); what was there before is "
                                 r"untouched") as e:
            write_whole(tmp_path/"file", b"new")
    assert e.value.errno == number and [p.name
                                        for p in tmp_path.iterdir()] == ["file"] and (
                                            tmp_path/"file").read_bytes() == b"old"


def test_a_folder_that_cannot_be_waited_for_is_not_said_to_be_untouched(monkeypatch, tmp_path):
    write_whole(tmp_path/"file", b"old")
    # as some network file systems do
    monkeypatch.setattr(files, "_sync_folder", fails(errno.EINVAL))
    try: write_whole(tmp_path/"file", b"new")
    except OSError as e: assert "untouched" not in str(e)
    assert (tmp_path/"file").read_bytes() == b"new"


@pytest.mark.parametrize("room", [0, 1, 5])
def test_a_disk_that_fills_up_stops_the_run_and_loses_nothing(room, monkeypatch, tmp_path, whole):
    # a state each step
    monkeypatch.setattr(mae_nb.training.resume, "Pace", partial(Pace, share=1., first=0.))
    monkeypatch.setattr(Full, "room", room)
    mae = model()
    with monkeypatch.context() as m:
        m.setattr(files, "open", Full, raising=False)
        told = r"state-\d+-\w+.safetensors could not be written .*untouched"
        with pytest.raises(OSError, match=told) as e:
            run(call("noise", 40), mae, checkpoint=tmp_path)
    assert e.value.errno == errno.ENOSPC and not [*tmp_path.glob(".*.part")]
    assert len([*tmp_path.glob("state-*")]) == min(room, 2)
    assert all(p.isfinite().all() for p in mae.parameters())
    assert run(call("noise", 40), mae, checkpoint=tmp_path) == whole["noise"]


def test_a_folder_that_is_none_or_may_not_be_written_to_is_refused_at_once(monkeypatch, tmp_path):
    (tmp_path/"file").write_text("no folder")
    for folder in (tmp_path/"file", tmp_path/"file"/"below"):
        with pytest.raises(OSError, match="checkpoint got .*file.*a folder that can be written to"):
            run(call("noise", 5), checkpoint=folder)
    monkeypatch.setattr(filelock.FileLock, "acquire", fails(errno.EACCES))
    with pytest.raises(PermissionError,
                       match="checkpoint got .*Permission denied.*a folder that can be written to"):
        run(call("noise", 5), checkpoint=tmp_path)


def hold(tell, folder):
    with Checkpoints(folder).held():
        tell.send("holds")
        time.sleep(60)


def test_two_processes_cannot_use_one_folder(tmp_path):
    process = start(hold, tmp_path)
    with pytest.raises(RuntimeError, match="which another process is using"):
        run(call("noise", 5), checkpoint=tmp_path)
    process.kill()
    process.join()
    run(call("noise", 5), checkpoint=tmp_path)                                # who dies lets go


class Halt(Exception):
    "Stands for a kill."


def halted(kind, folder, monkeypatch, at=33, how=None, target=.5):
    "Two states, of the steps before `at`, in a folder."
    real = Training.advance
    def advance(self):
        if self.step == at: raise Halt
        return real(self)
    with monkeypatch.context() as m:
        m.setattr(Training, "advance", advance)
        m.setattr(mae_nb.training.resume, "Pace", partial(Pace, share=1., first=0.))
        with pytest.raises(Halt): run(how or call(kind, 40), model(target), checkpoint=folder)
    states = sorted(folder.glob("state-*"))
    assert [int(p.name[6:14]) for p in states] == [at - 1, at]
    return states


def damage(content, draw):
    "Cut short, or with one bit flipped."
    how = draw.randrange(3)
    if how == 0: return content[:draw.randrange(len(content))]
    # the first bytes say how long what follows is
    place = draw.randrange(len(content) if how == 1 else 64)
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_state_gives_way_to_the_one_before(kind, tmp_path, monkeypatch, whole):
    draw, (older, newer) = random.Random(kind), halted(kind, tmp_path/"made", monkeypatch)
    for i in range(4):
        folder = tmp_path/str(i)
        shutil.copytree(tmp_path/"made", folder)
        (folder/newer.name).write_bytes(b'' if i == 3 else damage(newer.read_bytes(), draw))
        with pytest.warns(UserWarning,
                          match=f"{newer.name} was cut short or damaged; the state before it is "
                                "used"):
            assert run(call(kind, 40), checkpoint=folder, ignore=False) == whole[kind]
    shutil.copytree(tmp_path/"made", folder := tmp_path/"older")
    (folder/older.name).write_bytes(damage(older.read_bytes(), draw))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(call(kind, 40), checkpoint=folder, ignore=False) == whole[kind]


def test_no_damage_restarts_a_run_unasked(tmp_path, monkeypatch):
    draw, states = random.Random(0), halted("noise", tmp_path, monkeypatch)
    whole = [path.read_bytes() for path in states]
    for _ in range(12):
        for path, content in zip(states, whole): path.write_bytes(damage(content, draw))
        with pytest.raises(ValueError, match="whose states are all damaged"):
            run(call("noise", 40), checkpoint=tmp_path)


def test_a_finished_run_returns_at_once(tmp_path, monkeypatch, whole):
    for kind in KINDS: assert run(call(kind, 40), checkpoint=tmp_path/kind) == whole[kind]
    # no step is taken any more
    monkeypatch.setattr(Training, "advance", None)
    for kind in KINDS: assert run(call(kind, 40), checkpoint=tmp_path/kind) == whole[kind]


def test_a_run_that_fails_after_a_kill_ends_with_the_same_good_parameters(tmp_path, monkeypatch):
    how = call("noise", 80) | {"lr": lambda progress: 1e30 if progress > .9 else 3e-3}
    halted("noise", tmp_path, monkeypatch, 60, how, None)
    def failed(**kwargs):
        mae = model(None)
        with pytest.raises(TrainingDiverged) as e: fit(mae, progress=False, **how, **kwargs)
        return e.value.step, ends(mae, e.value.history)
    first = failed()
    assert first[0] > 70 and failed(checkpoint=tmp_path) == failed(checkpoint=tmp_path) == first


def test_a_run_whose_sampler_refuses_nan_is_said_to_have_diverged():
    with pytest.raises(TrainingDiverged): run(call("noise", 40) | {"lr": lambda progress: 1e30})


def test_a_run_stopped_by_ctrl_c_keeps_its_last_step(tmp_path, whole):
    def interrupt(look): os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(call("looks", 40) | {"callbacks": [interrupt]}, checkpoint=tmp_path)
    assert Checkpoints(tmp_path).steps()[0][0] == 10
    assert run(call("looks", 40), checkpoint=tmp_path) == whole["looks"]


@pytest.mark.parametrize("what, other", [
    ("steps", {"steps": 41}), ("lr", {"lr": .004}), ("batch_size", {"batch_size": 31}),
    ("seed", {"seed": 1}), ("seed", {"seed": None}), ("clip", {"clip": 2.}),
    ("kl_weight", {"kl_weight": 2.}), ("every", {"every": 7}), ("data", {"data": DATA + 1e-6}),
    ("data", {"data": DATA.flip(0)}),
    ("validation", {"validation": DATA[:9]}),
    ("target", {"mae": .6}), ("target", {"mae": None}),
    ("model", {"mae": partial(model, width=9)})])
def test_a_folder_of_another_run_is_refused_naming_what_differs(what, other, tmp_path, monkeypatch,
                                                                halted_run):
    shutil.copytree(halted_run, tmp_path/"run")
    make = other.get("mae", .5)
    mae = make() if callable(make) else model(make)
    before = ends(mae, mae_nb.train.History({}))
    with pytest.raises(ValueError,
                       match=rf"checkpoint got .* where a run with another {what} lies"):
        run(call("noise", 40) | {k: v for k, v in other.items() if k != "mae"}, mae,
            checkpoint=tmp_path/"run")
    assert (ends(mae, mae_nb.train.History({})) == before
            and len([*(tmp_path/"run").glob("state-*")]) == 2)


@pytest.fixture(scope="module")
def halted_run(tmp_path_factory, quick):
    with pytest.MonkeyPatch.context() as m:
        halted("noise", folder := tmp_path_factory.mktemp("halted"), m)
    return folder


@pytest.mark.parametrize("a, b",
                         [({"prior": None}, {"prior": Independent(Normal(torch.zeros(2), 2.), 1)}),
                          ({"sd": .5}, {"sd": .4})], ids=["prior", "sd"])
def test_a_model_that_differs_in_what_no_weight_shows_is_another_run(a, b, tmp_path):
    run(call("noise", 5), model(**a), checkpoint=tmp_path)
    with pytest.raises(ValueError, match="where a run with another"):
        run(call("noise", 5), model(**b), checkpoint=tmp_path)


def test_a_loader_whose_sampler_has_the_generator_goes_on_where_it_was(tmp_path, monkeypatch):
    def how():
        return {"data": DataLoader(TensorDataset(DATA), 32,
                                   sampler=RandomSampler(DATA,
                                                         generator=torch.Generator().manual_seed(
                                                             7))), "steps": 40}
    halted("noise", tmp_path, monkeypatch, how=how())
    assert run(how(), checkpoint=tmp_path) == run(how())


def saved(folder):
    "A model with a certificate, and a sample of its."
    with seeded(0): mae = ready_mae(3, .5, latents=2, width=4)
    mae.certified = Certificate(.5, Interval(.49, .51, 1e-5, 16, 9.5), .02, True,
                                "held"), mae.fingerprint()
    mae.save(folder)
    return mae


def same(a, b):
    return (all(torch.equal(s, t) for s, t in zip(a.state_dict().values(), b.state_dict().values()))
            and torch.equal(a.sample(5, seed=0), b.sample(5, seed=0))
            and a.certified[0] == b.certified[0]
            and (a.target, a.codes, a.k) == (b.target, b.codes, b.k))


def test_no_flipped_bit_of_a_model_goes_unseen(tmp_path):
    mae, draw, loaded = saved(tmp_path), random.Random(0), 0
    for path in tmp_path.iterdir():
        whole = path.read_bytes()
        for _ in range(150):
            place = draw.randrange(len(whole))
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)])
                             + whole[place + 1:])
            try: other = load(tmp_path)
            except ValueError as e: assert "path got" in str(e) and "damaged" in str(e)
            else:
                assert same(mae, other)
                loaded += 1
        for cut in (0, 1, 8, len(whole)//2, len(whole) - 1):
            path.write_bytes(whole[:cut])
            with pytest.raises(ValueError, match="path got .*damaged"): load(tmp_path)
        path.write_bytes(whole)
    assert same(mae, load(tmp_path)) and loaded < 50


def test_a_model_without_one_of_its_files_is_refused(tmp_path):
    saved(tmp_path)
    next(tmp_path.glob("weights-*")).unlink()
    with pytest.raises(FileNotFoundError, match="both files that `mae.save` wrote"): load(tmp_path)
    (tmp_path/"model.json").unlink()
    with pytest.raises(FileNotFoundError, match="a folder that `mae.save` wrote"): load(tmp_path)
    with pytest.raises(FileNotFoundError): load(tmp_path/"nothing")


def test_a_kill_leaves_nothing_that_stays_for_good(tmp_path):
    saved(tmp_path)
    process = start(write_and_die, "model", tmp_path, 4)
    process.join()
    assert process.exitcode == -signal.SIGKILL and [*tmp_path.glob(".*.part")]
    saved(tmp_path)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]


class Evil:
    "Unpickled, it writes a file."
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.system, (f"touch '{self.path}'",)


def test_a_pickle_by_an_enemy_runs_nothing(tmp_path):
    ran = tmp_path/"ran"
    weights = categorical_mae().state_dict()
    contents = [Evil(ran), {"a": Evil(ran)}, weights | {"extra": Evil(ran)}, [weights], None, 3]
    for i, content in enumerate(contents):
        path = tmp_path/f"{i}.pt"
        torch.save(content, path)
        with pytest.raises(ValueError,
                           match="path got .*something else than weights, or is damaged"):
            load(path, categorical_mae)
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError,
                           match="path got .*something else than weights, or is damaged"):
            load(path, categorical_mae)
    assert not ran.exists()


def test_the_first_format_is_read(tmp_path):
    with seeded(0): mae = categorical_mae(.5)
    torch.save(mae.state_dict(), path := tmp_path/"old.pt")
    other = load(path, lambda target: categorical_mae(.5))
    assert all(torch.equal(a, b) for a, b in zip(mae.parameters(), other.parameters()))
    with pytest.raises(ValueError, match="make got None"): load(path)
    with pytest.raises(ValueError, match="make got a function whose models have .* of shape"):
        load(path, lambda target: normal_mae(.5))
    content, draw = path.read_bytes(), random.Random(0)
    # a format without a seal: a flip may pass, and never crashes
    for _ in range(30):
        path.write_bytes(damage(content, draw))
        try: load(path, lambda target: categorical_mae(.5))
        except ValueError as e: assert "got" in str(e)


def forged(folder, **changes):
    "A model whose description was changed, and sealed again; what is None now is left out."
    about = json.loads((folder/"model.json").read_text())
    about = {k: v for k, v in (about | changes).items() if v != "leave out"}
    about.pop("seal")
    (folder/"model.json").write_text(json.dumps(about | {"seal": _seal_of(about)}))


PLAIN = {"shape": 3, "latents": 2, "width": 4}
ARGUMENTS = [ # of `ready_mae`
    {"shape": "3"}, {"shape": -3}, {"shape": None}, {"shape": {"a": 1}}, {"shape": [[3]]},
             {"shape": True}, {"shape": 3.}, {"latents": "2"}, {"latents": 0},
    {"latents": [2]}, {"latents": 3}, {"width": "4"}, {"width": -1}, {"width": [4]}, {"width": 2.5},
             {"likelihood": "os.system"}, {"likelihood": ["normal"]},
    {"likelihood": [{}, [], None]}, {"likelihood": ["normal", "normal", "eval"]},
             {"likelihood": None}, {"likelihood": 5}, {"likelihood": "rounded", "levels": "x"},
    {"likelihood": "categorical", "levels": -1}, {"centre": "x"}, {"centre": [1, 2]},
             {"centre": None}, {"scale": 0}, {"scale": -1}, {"scale": math.nan}, {"scale": {}},
    {"control": "eval"}, {"control": ["pi"]}, {"k": -1}, {"k": "x"},
             {"codes": "x"}, {"codes": 0}, {"joint": True}, {"prior": "x"}, {"encoder": "x"},
    {"__class__": "x"}, {"self": 1}, {"target": .7}, {"hook": "x"}, {"data": [1]},
             {"device": "meta"},
    {"control": {}}, {"control": {"controller": "os.system"}},
             {"control": {"controller": ["Penalty"]}},
             {"control": {"controller": "Penalty", "weight": "x"}},
    {"control": {"controller": "Penalty", "weight": -1.}},
             {"control": {"controller": "PIMultiplier", "os": 1}},
             {"control": {"own controller": "Penalty"}}]
CRASHING = [{"dtype": "float32"}, {"device": "x"}, {"scale": [[1], [2, 3]]}, {"latents": 10**15}]
FORGERIES = [{"recipe": name}
             for name in ("os.system", "__import__", "__import__('os').system('touch ran')", "eval",
                          "MutualAutoencoder", "load", "", 5, True, 1.5)] + [
    {"arguments": ["touch ran"]}, {"arguments": "touch ran"}, {"arguments": None}, {"arguments": 7},
                              {"arguments": {}},
    *({"arguments": PLAIN | extra} for extra in ARGUMENTS),
    {"target": "x"}, {"target": [1]}, {"target": -1}, {"target": math.nan}, {"target": {}},
                              {"format": 4}, {"format": 99}, {"format": "2"}, {"format": None},
    {"format": [2]}, {"format": "leave out"}, {"control": "penalty"}, {"joint": True},
                              {"joint": "x"}, {"control": {"own controller": "os.system"}},
                              {"codes": 3}, {"weights": "../secret"}, {"weights": "secret"},
                              {"weights": "/secret"},
    {"weights": ""}, {"weights": ".."}, {"weights": 5}, {"weights": None}, {"weights": ["x"]},
                              {"sha256": "0"*64}, {"sha256": None}]
CRASHES = [{"recipe": ["os.system"]}, {"recipe": {"a": 1}},
           *({"arguments": PLAIN | extra} for extra in CRASHING), {"weights": "leave out"},
           {"sha256": "leave out"},
           {"recipe": "leave out"}, {"arguments": "leave out"}, {"target": "leave out"},
           {"certificate": 5}, {"certificate": {"a": 1}}, {"certificate": {"interval": 5}},
           {"certificate": {"interval": {"x": 1}}}, {"certificate": [1]},
           {"certificate": {"interval": {"lower": 0, "upper": 1, "stderr": 0}, "os": 1}}]


@pytest.mark.parametrize("changes", FORGERIES + CRASHES, ids=str)
def test_a_description_by_an_enemy_runs_nothing_and_is_refused(changes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path/"model")
    shutil.copy(next((tmp_path/"model").glob("weights-*")), tmp_path/"secret")
    forged(tmp_path/"model", **changes)
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=" got .* but takes "):
        load(tmp_path/"model")
    assert not (tmp_path/"ran").exists()


def test_weights_by_an_enemy_are_refused(tmp_path):
    saved(tmp_path)
    path = next(tmp_path.glob("weights-*"))
    whole, draw = path.read_bytes(), random.Random(0)
    for i in range(60):
        content = [b"", b"x", b"\xff"*8, b"\xff"*64, pickle.dumps({"a": 1}), whole[:7] + b"\x7f"
                   + whole[8:]][i] if i < 6 else damage(whole, draw)
        path.write_bytes(content)
        forged(tmp_path, sha256=files.seal(content))
        # sealed again, weights of the right shape are weights
        try: load(tmp_path)
        except ValueError as e: assert "got" in str(e) and "but takes" in str(e)


def test_a_description_nested_without_end_is_refused(tmp_path):
    saved(tmp_path)
    (tmp_path/"model.json").write_text("["*100_000)
    with pytest.raises(ValueError, match="path got"): load(tmp_path)


def test_missing_extra(monkeypatch, tmp_path):
    "Without safetensors, saving and loading say what to install."
    categorical_mae(1.).save(path := tmp_path/"model")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    def wanted(what): return (rf"{what} needs safetensors.torch, which is an extra: pip install "
                              r"'mae_nb\[save\]'")
    with pytest.raises(ImportError, match=wanted("loading")): load(path)
    with pytest.raises(ImportError, match=wanted("saving")): categorical_mae(1.).save(path)
