"`Hold` in several processes, over gloo and a file."
import json
import warnings
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mae_nb.context import seeded
from mae_nb.mae import MutualAutoencoder
from mae_nb.models import categorical_mae, normal_mae, ready_mae
from mae_nb.nets import NormalNet, standard_normal
from mae_nb.oracle import exact_information
from mae_nb.training.hold import Hold
from torch import nn
from torch.nn.parallel import DistributedDataParallel

if not (dist.is_available() and dist.is_gloo_available()):
    pytest.skip("torch without gloo", allow_module_level=True)


def _process(rank, work, ranks, folder):
    "One process of a run: what it returns, or the error it ends with, goes to a file."
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", timedelta(seconds=60), ranks, rank)
    try: found = work(rank, ranks)
    except Exception as e:  # noqa: BLE001
        found = f"{type(e).__name__}: {e}"
    torch.save(found, f"{folder}/{rank}.pt")


def in_processes(work, folder, ranks=2):
    "What `work(rank, ranks)` returns in each process; None where a process was killed."
    server = mp.get_context("forkserver")  # its processes have imported what takes seconds
    server.set_forkserver_preload(["torch", "mae_nb.all"])
    started = [server.Process(target=_process, args=(rank, work, ranks, folder))
               for rank in range(ranks)]
    for process in started: process.start()
    try:
        for process in started: process.join(120)
        assert not any(process.is_alive() for process in started)
    finally:
        for process in started: process.kill()
    files = [Path(folder, f"{rank}.pt") for rank in range(ranks)]
    return [torch.load(file) if file.exists() else None for file in files]


BATCH, CODES = 32, 24  # of each process


def halves(rank, ranks):
    "Standard normals, of which each process gets its part of those for the whole batch."
    shared = torch.Generator().manual_seed(7)
    def draw(shape, **kwargs):
        shape, sizes = [*shape], {BATCH, CODES} if ranks > 1 else {2*BATCH, 2*CODES}
        i = next(i for i, size in enumerate(shape) if size in sizes)
        n, shape[i] = shape[i], shape[i]*ranks
        return torch.randn(shape, generator=shared).narrow(i, rank*n, n)
    return draw


def follows(rank, ranks, steps=50):
    "Parameters and multipliers of a run with this process's share of the data and the draws."
    with seeded(0):
        mae = MutualAutoencoder(*(NormalNet(*size, 16) for size in ((2, 3), (3, 2))),
                                standard_normal(3), NormalNet(2, 3, 16), target=.5, k=4,
                                codes=2*CODES//ranks)
        x = torch.randn(steps, 2*BATCH, 2)
    model, hold = DistributedDataParallel(mae) if ranks > 1 else mae, Hold(mae, steps)
    optimiser, seen = torch.optim.SGD(mae.parameters(), .02), []
    draw, share = halves(rank, ranks), 2*BATCH//ranks
    torch.normal = lambda mean, std: mean + std*draw(mean.shape)
    torch.distributions.normal._standard_normal = lambda shape, dtype, device: draw(shape)
    for batch in x:
        optimiser.zero_grad()
        hold(model(batch[rank*share:(rank + 1)*share])).backward()
        nn.utils.clip_grad_norm_(mae.parameters(), 1.)
        optimiser.step()
        seen.append(hold.multiplier.item())
    return torch.cat([p.detach().flatten() for p in mae.parameters()]), torch.tensor(seen)


def test_two_processes_with_half_a_batch_follow_one_with_the_whole(tmp_path, monkeypatch):
    (first, its), (second, others) = in_processes(follows, tmp_path)
    assert torch.equal(first, second) and torch.equal(its, others)
    # as they are, once more after this test
    normals = torch.distributions.normal
    monkeypatch.setattr(torch, "normal", torch.normal)
    monkeypatch.setattr(normals, "_standard_normal", normals._standard_normal)
    whole, alone = follows(0, 1)
    assert (whole - first).abs().max() < 1e-5 and (alone - its).abs().max() < 1e-5
    assert its.abs().max() > .01  # the multiplier moves


def holds(rank, ranks, steps=300):
    "The exact information after a run with draws of its own, and the multiplier."
    with seeded(1): mae = categorical_mae(1.)
    model, hold = DistributedDataParallel(mae), Hold(mae, steps)
    optimiser = torch.optim.Adam(mae.parameters(), 3e-3)
    torch.manual_seed(rank)
    for _ in range(steps):
        optimiser.zero_grad()
        hold(model(mae.data[torch.randint(len(mae.data), (64,))])).backward()
        nn.utils.clip_grad_norm_(mae.parameters(), 1.)
        optimiser.step()
    return exact_information(mae), hold.multiplier


def test_three_processes_hold_the_target_with_one_multiplier(tmp_path):
    found = in_processes(holds, tmp_path, ranks=3)
    assert all(abs(information - 1) < .05 for information, _ in found), found
    assert all(torch.equal(multiplier, found[0][1]) for _, multiplier in found)


def test_processes_share_what_the_estimate_is_off_by(tmp_path):
    found = in_processes(corrects, tmp_path)
    assert torch.equal(found[0], found[1]) and found[0][0] != 0


def corrects(rank, ranks):
    "The bias of the estimate after its first correction, and the state."
    with seeded(1): mae = ready_mae((4, 4), .5, "bernoulli")
    hold, x = Hold(mae, 200), torch.rand(32, 4, 4).round()
    hold.calls.fill_(99)
    torch.manual_seed(rank)
    hold(mae(x))
    return torch.cat([hold.bias, *hold.state.values()])


def breaks(rank, ranks, how):
    "A run in which the second process fails at its fourth step."
    with seeded(1): mae = categorical_mae(1.)
    model, hold = DistributedDataParallel(mae), Hold(mae, 100)
    optimiser = torch.optim.SGD(mae.parameters(), 1e-3)
    for step in range(8):
        if rank and step == 3:
            if how == "dies": raise SystemExit
            if how == "ends": return "ended"
        terms = model(mae.data[:64])
        if rank and step == 3: terms = terms._replace(rate=terms.rate*float("nan"))
        optimiser.zero_grad()
        hold(terms).backward()
        optimiser.step()
    return "no error"


def test_a_number_that_is_not_finite_is_an_error_everywhere(tmp_path):
    for found in in_processes(partial(breaks, how="NaN"), tmp_path):
        assert found.startswith("FloatingPointError") and "of rank 1" in found and "step 3" in found


@pytest.mark.parametrize("how", ["dies", "ends"])
def test_a_process_that_is_gone_is_an_error_in_the_others(how, tmp_path):
    found, other = in_processes(partial(breaks, how=how), tmp_path)
    assert other == (None if how == "dies" else "ended")
    assert "RuntimeError" in found


def the_page(*starts):
    "What the cells of the page on loops define that begin so."
    page = Path(__file__).parents[1]/"nbs"/"use"/"09_loops.ipynb"
    cells = ["".join(cell["source"]) for cell in json.loads(page.read_text("utf-8"))["cells"]]
    defined = {}
    for start in ("#| hide\nimport", "import torch", *starts):
        cell = next(cell for cell in cells if cell.startswith(start))
        exec(cell, defined)
    return defined


def test_a_run_whose_processes_are_killed_ends_as_an_undisturbed_one(tmp_path):
    page = the_page("kept =", "#| code-fold: true\ndef begin")
    page["kept"] = page["kept"].replace("optimiser = 800,", "optimiser = 200,")
    first, second = tmp_path/"first", tmp_path/"second"
    for folder in (first, second): folder.mkdir()
    kills, _, clear, whole, continued = page["killed"](first, 2)
    assert kills == clear == whole == continued == 2
    page["killed"](second, 0)
    states = [page["saved"](folder) for folder in (first, second)]
    assert states[0]["hold"]["calls"] == states[1]["hold"]["calls"] == 200
    for name in ("mae", "hold"):
        assert all(map(torch.equal, states[0][name].values(), states[1][name].values()))


def shards(rank, ranks, steps=5):
    "Parameters after the same steps in DistributedDataParallel and in FSDP2, for two models."
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    sharded, found = partial(fully_shard, mesh=init_device_mesh("cpu", (ranks,))), []
    def net_by_net(mae):
        for net in mae.children(): sharded(net, reshard_after_forward=False)
        return sharded(mae)
    for make, shard in ((partial(normal_mae, .5), sharded),
                        (partial(ready_mae, (4, 4), .5, "bernoulli"), net_by_net)):
        for wrap in (DistributedDataParallel, shard):
            with seeded(1): mae = make()
            hold, model = Hold(mae, 200), wrap(mae)
            optimiser = torch.optim.Adam(model.parameters(), 3e-3)
            torch.manual_seed(rank)
            for step in range(steps):
                if step == 3: hold.calls.fill_(99)  # where the estimate is corrected
                x = torch.rand(32, 4, 4).round() if mae.data is None else mae.data[:32]
                hold(model(x)).backward()
                nn.utils.clip_grad_norm_(mae.parameters(), 1.)
                optimiser.step()
                optimiser.zero_grad()
            whole = [getattr(p, "full_tensor", lambda p=p: p)() for p in mae.parameters()]
            found.append(torch.cat([p.detach().flatten() for p in whole]))
    with pytest.raises(ValueError, match="scalar parameters"): sharded(categorical_mae(1.))
    return found


def test_sharded_models_follow_whole_ones(tmp_path):
    pytest.importorskip("torch.distributed.fsdp", reason="FSDP2", exc_type=ImportError)
    if not hasattr(torch.distributed.fsdp, "fully_shard"): pytest.skip("torch without FSDP2")
    for found in in_processes(shards, tmp_path):
        assert len(found) == 4, found
        for whole, sharded in (found[:2], found[2:]):
            assert whole.shape == sharded.shape and (whole - sharded).abs().max() < 1e-5
