"Certificates, reports and settling that the processes of a run share, over gloo and a file."
from functools import partial

import pytest
import torch
from mae_nb.context import seeded
from mae_nb.models import categorical_mae, ready_mae
from mae_nb.oracle import exact_information
from mae_nb.reporting import report
from mae_nb.training.hold import Hold
from test_distributed import in_processes


def certified(rank, ranks, target):
    "The certificate of an untrained model, in a process whose own random numbers differ."
    with seeded(0): mae = categorical_mae(target)
    torch.manual_seed(rank)
    found = mae.certificate(.05, budget=2**18, shared=True)
    return repr(found), found.verdict, found.interval.holds(exact_information(mae)), torch.rand(1)


@pytest.mark.parametrize("target, verdict", [(.0005, "held"), (1.5, "not held")])
def test_processes_share_a_certificate(target, verdict, tmp_path):
    found = in_processes(partial(certified, target=target), tmp_path)
    assert found[0][:3] == found[1][:3]
    assert found[0][1:3] == (verdict, True)
    assert found[0][3] != found[1][3]  # the random numbers of each go on


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


def refused(rank, ranks):
    "A certificate that the first process cannot give."
    with seeded(0): mae = categorical_mae(1.)
    return mae.certificate(seed=None, shared=True)


def test_a_shared_certificate_takes_a_seed(tmp_path):
    assert all("seed got None" in found for found in in_processes(refused, tmp_path))
