"Certificates, reports and settling that the processes of a run share, over gloo and a file."
from functools import partial

import pytest
import torch
from mae_nb.context import measuring, seeded
from mae_nb.infomax import mixture
from mae_nb.models import categorical_mae, ready_mae
from mae_nb.narrowing import Proposing, narrowed
from mae_nb.oracle import exact_information
from mae_nb.reporting import report
from mae_nb.training.hold import Hold, TargetRate
from test_distributed import in_processes


def certified(rank, ranks, off):
    "A certificate by all processes of a target that is `off` nats, and one by this process alone."
    with seeded(0): mae = categorical_mae(1.)
    with torch.no_grad(): mae.decoder.net[-1].weight.mul_(8.)
    mae.target = exact_information(mae) + off
    torch.manual_seed(rank)
    found = [mae.certificate(.03, budget=2**17, explain=False, seed=seed, shared=True)
             for seed in range(8)]
    missed = [not each.interval.holds(exact_information(mae)) for each in found]
    alone = mae.certificate(.03, budget=2**17, explain=False)
    return list(map(repr, found)), missed, [each.verdict for each in found], repr(alone)


@pytest.mark.parametrize("off, verdict", [(.01, "held"), (.1, "not held")])
def test_processes_share_a_certificate(off, verdict, tmp_path):
    first, second = in_processes(partial(certified, off=off), tmp_path)
    assert first[:3] == second[:3] and first[3] == second[3]
    assert len(set(first[0])) == 8 and first[3] not in first[0]  # pairs of their own
    assert sum(first[1]) <= 2 and set(first[2]) == {verdict}


def lengths(rank, ranks):
    "Pairs and passes of an interval by all processes, and the standard error beside that of one."
    with seeded(0): mae = categorical_mae(1.)
    net = mixture(mae.infomax, mae.prior, weights=(.9, .1))
    def one(shared):
        way = Proposing("net", mae.decoder, mae.prior, net)
        with measuring(seed=2*rank + 1):
            return narrowed([way], lambda i: False, None, n=1000, budget=2**15, shared=shared), way
    (found, way), (alone, _) = one(True), one(False)
    return tuple(found.interval[:3]), way.passes, alone.interval.stderr, found.passes


def test_processes_take_half_of_the_pairs_each(tmp_path):
    first, second = in_processes(lengths, tmp_path)
    assert first[0] == second[0] and first[3] == first[1] + second[1]
    assert first[1] == second[1] < 2**15 <= 1.2*first[3]
    assert abs(first[0][2]/first[2] - 1) < .2  # of as many pairs in all


def reported(rank, ranks):
    "A report by all processes, and by this one alone."
    with seeded(0): mae = ready_mae((3, 3), 1., "bernoulli", latents=2)
    x = torch.rand(41, 3, 3, generator=torch.Generator().manual_seed(0)).round()
    both = report(mae, x, k=64, shared=True), report(mae, x, k=64)
    return [(str(each), each.n, *map(tuple, each[:4])) for each in both]


def test_processes_share_a_report(tmp_path):
    (first, alone), (second, other) = in_processes(reported, tmp_path)
    assert first == second and alone == other and first[1] == alone[1] == 41
    for (of_all, _), (of_one, stderr) in zip(first[2:5], alone[2:5]):
        assert of_all != of_one and abs(of_all - of_one) < 5*stderr
    assert first[5] == pytest.approx(alone[5])  # the rate, without draws


def settled(rank, ranks):
    "The parameters and the spread after settling, which the first process does."
    with seeded(0): mae = ready_mae((3, 3), .01, "bernoulli", latents=2)
    with torch.no_grad():
        for w in mae.decoder.parameters(): w.mul_(4.)
    x = torch.rand(64, 3, 3, generator=torch.Generator().manual_seed(rank)).round()
    torch.manual_seed(rank)
    spread = Hold(mae, 100).settle(x.split(32), steps=5)
    return spread, torch.cat([t.flatten() for t in mae.state_dict().values()])


def test_one_process_settles_for_all(tmp_path):
    (spread, first), (other, second) = in_processes(settled, tmp_path)
    assert spread == other < 1 and torch.equal(first, second)


def refused(rank, ranks, what):
    "A call that a process cannot answer."
    with seeded(0): mae = categorical_mae(1.)
    if what == "seed": return mae.certificate(seed=None, shared=True)
    if what == "data": return report(mae, torch.arange(2 + rank), k=2, shared=True)
    if rank: mae.decoder.forward = None
    return mae.certificate(.05, shared=True)


@pytest.mark.parametrize("what, said", [
    ("seed", ("seed got None",)*2), ("data", ("other data in another process",)*2),
    ("decoder", ("Rank 1 failed while it was measured: TypeError", "TypeError"))])
def test_an_error_of_one_process_is_one_of_all(what, said, tmp_path):
    found = in_processes(partial(refused, what=what), tmp_path)
    assert all(text in each for text, each in zip(said, found)), found


def weighed(rank, ranks):
    "The weights of a rate that differs between the processes."
    weigh = TargetRate(2.)
    return [weigh(float(1 + rank + step)).item() for step in range(5)]


def test_processes_share_the_weight_of_a_rate(tmp_path):
    first, second = in_processes(weighed, tmp_path)
    weigh = TargetRate(2.)
    assert first == second == [weigh(1.5 + step).item() for step in range(5)]
