"The price of the constraint: a step of a model that holds M beside one of a plain VAE, in turns."
import statistics
import sys
import time

import torch
from mae_nb.context import seeded, validating
from mae_nb.models import ready_mae
from mae_nb.training.feed import data_for
from mae_nb.training.how import How
from mae_nb.training.step import Training

BATCH = 128
CASES = {"plain VAE": dict(target=None), "M = 10": dict(target=10.),
         "M = 10, gradient of the estimate, k = 4, 64 codes":
             dict(target=10., control="gentle", k=4, codes=64)}


def run_of(latents: int, **made) -> Training:
    "A run on black and white pictures of 28 x 28 pixels, that takes one step at a time."
    with seeded(0):
        x = (torch.rand(2000, 28, 28) < .2).float()
        mae = ready_mae((28, 28), likelihood="bernoulli", latents=latents, **made)
    how = How(steps=1500, batch_size=BATCH, progress=False, validation=None)
    return Training([mae.train()], data_for(mae, x, BATCH, None, 0), how)


def main(turns: int = 7, steps: int = 100):
    "Print the time of a step and its ratio, for 16 and 32 latents."
    torch.set_num_threads(1)
    for latents in (16, 32):
        runs, took = {name: run_of(latents, **made) for name, made in CASES.items()}, {}
        with validating(False):
            for turn in range(turns):
                for name, run in runs.items():
                    start = time.process_time()
                    # a hundred, since the bias of the estimate is measured once in as many
                    for _ in range(steps): run.advance()
                    if turn: took.setdefault(name, []).append((time.process_time() - start)/steps)
        plain = statistics.median(took["plain VAE"])
        for name, times in took.items():
            each = statistics.median(times)
            print(f"{latents} latents, {name:52s} {1e3*each:6.1f} ms, "
                  f"{each/plain:5.2f} plain steps", flush=True)


if __name__ == "__main__": main(*map(int, sys.argv[1:]))
