"The price of `Hold` beside the same step written by hand, and what a second process saves."
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mae_nb.context import seeded
from mae_nb.mae import MutualAutoencoder
from mae_nb.models import categorical_mae, normal_mae, ready_mae
from mae_nb.training.hold import Hold
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

STEPS, BLOCK, BATCH = 100_000, 10, 256


def by_hand(mae: MutualAutoencoder, checked: bool) -> Callable[[Tensor], Tensor]:
    "The loss that `Hold` makes, with its controller's update, in plain lines."
    target, step, multiplier, past = mae.target, 0, torch.zeros(()), torch.zeros(())
    def loss(terms):
        nonlocal step, multiplier, past
        progress = step/STEPS
        asked = target*(1. if progress >= .4 else 1 - (1 - progress/.4)**2)
        error = (asked - terms.information).detach()
        coefficient = multiplier + 10*past
        multiplier = (multiplier + .3*error).clamp(-50., 50.)
        past = .8*past + .2*error
        value = (terms.reconstruction - terms.rate + coefficient*terms.information + terms.bound)
        if checked and not value.isfinite(): raise FloatingPointError(f"{value} at step {step}")
        step += 1
        return -value
    return loss


class Loop:
    "A loop of one's own, that takes a block of steps at a time."
    def __init__(self, make: Callable[[], MutualAutoencoder], loss_of: Callable):
        with seeded(0): self.mae = make()
        self.loss = loss_of(self.mae)
        self.optimiser = torch.optim.Adam(self.mae.parameters(), 1e-3)

    def block(self, seed: int) -> float:
        "Seconds of the processor for a block."
        torch.manual_seed(seed)
        x = self.mae.data[torch.randint(len(self.mae.data), (BLOCK, BATCH))]
        start = time.process_time()
        for batch in x:
            loss = self.loss(self.mae(batch))
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        return time.process_time() - start

    def parameters(self) -> Tensor:
        "All parameters, flat."
        return torch.cat([p.detach().flatten() for p in self.mae.parameters()])


def overhead(name: str, make: Callable[[], MutualAutoencoder], blocks: int):
    "Print the time of a step with `Hold` over that of the step by hand, in short blocks by turns."
    plain, checked = (partial(by_hand, checked=each) for each in (False, True))
    loops = {each: Loop(make, loss) for each, loss in {
        "by hand": plain, "by hand, once more": plain, "by hand, checked to be finite": checked,
        "Hold": partial(Hold, steps=STEPS)}.items()}
    took: dict[str, list[float]] = {each: [] for each in loops}
    for block in range(blocks + 2):
        for each in random.sample([*loops], len(loops)):
            seconds = loops[each].block(block)
            if block > 1: took[each].append(seconds)  # the first ones warm up
    same = [loop.parameters() for loop in loops.values()]
    assert all(torch.allclose(each, same[0], rtol=0, atol=1e-4) for each in same), "other steps"
    for each, times in took.items():
        ratios = [time/one for time, one in zip(times, took["by hand"])]
        print(f"{name:14s}  {each:29s} {1e3*statistics.median(times)/BLOCK:6.3f} ms a step, "
              f"{100*(statistics.median(ratios) - 1):+5.1f} %", flush=True)


def train(rank: int, ranks: int, batch: int, steps: int, folder: str):
    "Take steps on pictures of 28 x 28 pixels; write the seconds of the wall and of the processor."
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with seeded(0): mae = ready_mae((28, 28), 10., "bernoulli")
    hold, model = Hold(mae, STEPS), mae
    if ranks > 1:
        dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=ranks)
        model = DistributedDataParallel(mae)
    optimiser = torch.optim.Adam(mae.parameters(), 1e-3)
    torch.manual_seed(rank)
    x = (torch.rand(batch, 28, 28) < .2).float()
    for step in range(steps + 5):
        if step == 5: start, used = time.perf_counter(), time.process_time()  # warm
        loss = hold(model(x))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    took = time.perf_counter() - start, time.process_time() - used
    torch.save(torch.tensor(took), f"{folder}/{rank}.pt")
    if ranks > 1: dist.destroy_process_group()


def seconds(ranks: int, batch: int, steps: int) -> Tensor:
    "Seconds of a run by the wall, and of the processor in all processes, a thousand pictures."
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(train, (ranks, batch, steps, folder), ranks)
        wall, used = torch.stack([torch.load(f"{folder}/{i}.pt") for i in range(ranks)]).T
    return 1000*torch.stack([wall.amax(), used.sum()])/(ranks*batch*steps)


def processes(batch: int, steps: int, turns: int):
    "Print how long two processes take, and one with as many pictures a step, or half as many."
    cases = {"two processes, each": (2, batch), "one process": (1, 2*batch),
             "one process, half of it": (1, batch)}
    found: dict[str, list[Tensor]] = {each: [] for each in cases}
    for _ in range(turns):
        for each, (ranks, size) in cases.items():
            found[each].append(seconds(ranks, size, steps*batch//size))
    two = torch.stack(found["two processes, each"]).median(0).values
    for each, times in found.items():
        wall, used = torch.stack(times).median(0).values.tolist()
        print(f"28 x 28 pixels, one thread, {each:23s} {cases[each][1]:3d} a step: "
              f"{1000/wall:5.0f} pictures a second, {1e3*used:4.0f} ms of processor for 1,000; "
              f"two processes are {wall/two[0].item():.2f} times as fast", flush=True)


def main(blocks: int = 150, steps: int = 20, turns: int = 3):
    "Print both tables."
    torch.set_num_threads(1)
    overhead("ten categories", partial(categorical_mae, 1.), blocks)
    overhead("normal", partial(normal_mae, 1.), blocks)
    processes(512, steps, turns)


if __name__ == "__main__": main(*map(int, sys.argv[1:]))
