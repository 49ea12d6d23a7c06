"`sweep` over processes: the same runs, whatever the number of workers and whatever befalls them."
import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from unittest import mock

import joblib
import pytest
import torch
from mae_nb.context import seeded
from mae_nb.models import categorical_mae
from mae_nb.nets import CategoricalNet
from mae_nb.train import sweep
from mae_nb.training import shards
from mae_nb.training.feed import data_for
from mae_nb.training.history import History
from mae_nb.training.how import How
from torch.distributions import Categorical

HERE = os.getpid()
QUICK = dict(steps=20, batch_size=64, progress=False)


@pytest.fixture(scope="module", autouse=True)
def workers():
    "Idle workers of loky do not stay behind."
    yield
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)


class Mortal(CategoricalNet):
    "A decoder that kills its process where it is armed: each time, or until the file exists."
    def __init__(self, armed, file=None):
        super().__init__(1, 10)
        self.file, self.caller = file, os.getpid()
        self.register_buffer("armed", torch.tensor(armed))

    def forward(self, z):
        alive = self.file is not None and Path(self.file).exists()
        if os.getpid() != self.caller and self.training and not alive and self.armed:
            if self.file is not None: Path(self.file).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(z)


def mortals(target, file=None):
    "A plain VAE whose decoder is armed for the target 'x'."
    mae = categorical_mae(None)
    mae.decoder = Mortal(target == "x", file)
    return mae


def values(runs):
    return [torch.cat([t.flatten() for t in (*run.mae.parameters(), *run.mae.buffers())])
            for run in runs]


def same(runs, others):
    "Are plan, parameters, buffers and histories equal, to the last bit?"
    assert [run[1:3] for run in runs] == [run[1:3] for run in others]
    return (all(map(torch.equal, values(runs), values(others)))
            and all((a.history["elbo"] == b.history["elbo"]).all() for a, b in zip(runs, others)))


@contextlib.contextmanager
def caught():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


def test_one_worker_or_two_and_local_classes():
    plan = [(t, s) for t in (.5, None) for s in (0, 1)]
    def swept(**jobs):
        made = []
        class Own(CategoricalNet):
            "A class of this call."
            def forward(self, z): return Categorical(logits=super().forward(z).logits/2)
        def make(target):
            mae = categorical_mae(target)
            mae.decoder = Own(1, 10)
            made.append(mae)
            return mae
        with caught() as said:
            runs = sweep(lambda target: make(target), (.5, None), (0, 1), **QUICK, **jobs)
        # the very models that were made, in the order of the plan
        assert all(run.mae is mae for run, mae in zip(runs, made))
        assert [(run.target, run.seed) for run in runs] == plan
        return runs, said
    (one, said), (two, also), (stacks, _) = (swept(jobs=1, chunk=1), swept(jobs=2, chunk=1),
                                             swept(jobs=2, chunk=2))
    assert same(one, two) and not same(one, stacks)
    assert [str(w.message) for w in said] == [str(w.message) for w in also] != []
    assert all(run.mae.still_certified for run in two if run.target)
    # a sweep of groups that are a chunk each is what it is without jobs
    assert same(stacks, swept()[0])


class Fragile(CategoricalNet):
    "A decoder that breaks when its scale has moved."
    def __init__(self, breaks):
        super().__init__(1, 10)
        self.register_buffer("limit", torch.tensor(.01 if breaks else 100.))

    def forward(self, z):
        logits = super().forward(z).logits
        return Categorical(logits=torch.where(self.log_scale.abs() > self.limit, torch.nan, logits))


def test_warnings_and_failures_reach_the_caller():
    def fragile(target):
        mae = categorical_mae(target)
        mae.decoder = Fragile(target == 1.)
        return mae
    def swept(**how):
        shown = io.StringIO()
        with caught() as found, contextlib.redirect_stderr(shown):
            runs = sweep(fragile, [.8, 1.], **QUICK | how)
        return [(w.category, str(w.message), w.filename) for w in found], runs, shown.getvalue()
    without, runs, _ = swept()
    with_jobs, others, bar = swept(jobs=2, progress=True)
    assert with_jobs == without and same(runs, others)
    assert with_jobs[0][2] == __file__ and "Target 1.0, seed 0: failed at" in with_jobs[0][1]
    assert len(others[1].history) < 20 == len(others[0].history)
    assert bar.startswith(f"\r|{' '*20}| 0/2  models ")
    assert bar.endswith(f"\r|{'█'*20}| 2/2  models, 1 failed  0 s left \n")


def test_an_error_in_a_worker_is_raised_here():
    class Broken(CategoricalNet):
        def forward(self, z):
            if os.getpid() != HERE: raise KeyError("of a worker")
            return super().forward(z)
    def broken(target):
        mae = categorical_mae(target)
        mae.decoder = Broken(1, 10)
        return mae
    with pytest.raises(KeyError, match="of a worker"):
        sweep(broken, [None], range(2), jobs=2, chunk=1, **QUICK)


def test_a_killed_worker(tmp_path):
    plan = ["a", "x", "b"], (0, 1)
    whole = sweep(mortals, *plan, jobs=1, chunk=1, **QUICK)
    file = tmp_path/"killed"
    with caught() as said:
        runs = sweep(lambda target: mortals(target, str(file)), *plan, jobs=2, chunk=1, **QUICK)
    assert file.exists() and same(runs, whole)
    assert [str(w.message)[:20] for w in said] == ["A worker was killed:"]
    assert said[0].filename == __file__


def test_a_chunk_that_kills_each_time_ends_with_an_error():
    with mock.patch.object(shards, "_TRIES", 1), caught() as said:
        with pytest.raises(RuntimeError, match="got workers that were killed 2 times in a row"):
            sweep(mortals, ["x"], jobs=2, **QUICK)
    assert len(said) == 1


class TerminatedWorkerError(Exception): pass


def chunks_lost(dies, tasks=6):
    "A sweep whose results come until the engine dies; and how often it was begun."
    begun = []
    def train(maes, plan, data, how): return [(History({"elbo": [plan[0][1]]}), None)]
    def dispatched(left, shared, jobs):
        begun.append([*left])
        for done, (i, models) in enumerate(left.items()):
            if dies(len(begun), done): raise TerminatedWorkerError("a worker was killed\nand more")
            yield shards._work(i, models, shared)
    with seeded(0): maes = [categorical_mae(None) for _ in range(tasks)]
    given = [shards.Task([mae], [(None, i)], data_for(mae, None, 64)) for i, mae in enumerate(maes)]
    with mock.patch.object(shards, "_dispatched", dispatched), caught() as said:
        try: found = shards.in_shards(train, given, How(progress=False), 2)
        except RuntimeError as e: return str(e), begun
    assert [h["elbo"] for part in found for h, _ in part] == [[i] for i in range(tasks)]
    assert len(said) == len(begun) - 1
    return "", begun


def test_three_tries_without_progress():
    # five ends, with one chunk done before each
    assert chunks_lost(lambda begun, done: done == 1) == ("", [[*range(i, 6)] for i in range(6)])
    assert chunks_lost(lambda begun, done: begun < 4)[0] == ""
    error, begun = chunks_lost(lambda begun, done: True)
    assert "killed 4 times in a row (a worker was killed)" in error and len(begun) == 4


def test_a_dask_cluster(tmp_path):
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("dask.distributed")
    plan = ["a", "x", "b"], (0, 1)
    whole = sweep(mortals, *plan, jobs=1, chunk=1, **QUICK)
    file, how = tmp_path/"killed", dict(jobs=2, chunk=1, **QUICK)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True,
                                       dashboard_address=None, silence_logs=50)
    with cluster, distributed.Client(cluster), joblib.parallel_config("dask"):
        with caught() as said:
            runs = sweep(lambda target: mortals(target, str(file)), *plan, **how)
        # the scheduler gives the chunk to another worker
        assert file.exists() and same(runs, whole)
        assert not [w for w in said if "killed" in str(w.message)]
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True,
                                           dashboard_address=None, silence_logs=50)
    with cluster, distributed.Client(cluster), joblib.parallel_config("dask"):
        with mock.patch.object(shards, "_TRIES", 0):
            with pytest.raises(RuntimeError, match="workers that were killed 1 times"):
                sweep(mortals, ["x"], **how)


INTERRUPTED = """import signal
from mae_nb.models import categorical_mae
from mae_nb.train import sweep
signal.signal(signal.SIGINT, signal.default_int_handler)
def clock(progress):
    if progress > 0: print('training', flush=True)
    return 1.
sweep(categorical_mae, [None], range(4), steps=10**7, jobs=2, chunk=1, kl_weight=clock)"""


def test_an_interrupt_leaves_no_process_behind():
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout.readline().startswith(b"training")  # of either worker
        os.killpg(process.pid, signal.SIGINT)
        # the pipes end when the last process that holds them does
        _, errors = process.communicate(timeout=30)
        assert b"KeyboardInterrupt" in errors
        for _ in range(50):
            try: os.killpg(process.pid, 0)
            except ProcessLookupError: break
            time.sleep(.1)
        else: raise AssertionError("a process stays behind")
    finally:
        with contextlib.suppress(ProcessLookupError): os.killpg(process.pid, signal.SIGKILL)


def test_nothing_is_made_where_a_keyword_is_wrong():
    made = []
    for wrong in ({"jobs": 0}, {"jobs": True}, {"jobs": 1.5}, {"jobs": "two"}, {"chunk": 2},
                  {"jobs": 2, "chunk": 0}):
        name = "chunk" if "chunk" in wrong else "jobs"
        with pytest.raises(ValueError, match=f"{name} got"):
            sweep(made.append, [1.], **wrong)
    with joblib.parallel_config("threading"), pytest.raises(ValueError, match="jobs got joblib's"):
        sweep(made.append, [1.], jobs=2)
    assert not made
    lock = threading.Lock()
    def rate(progress): return 1e-3*(not lock.locked())
    with pytest.raises(TypeError, match="sweep got what cannot be sent"):
        sweep(categorical_mae, [1.], jobs=2, lr=rate)
