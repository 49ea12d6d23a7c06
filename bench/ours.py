"mae_nb: `fit` one after the other, and `sweep`, on the plain VAE and on the MAE at one nat."
import time
import warnings
from functools import partial

import torch
from mae_nb.models import normal_mae
from mae_nb.train import fit, sweep
from worker import serve

BATCH, WARM = 128, 25


def timed(train, steps: int) -> tuple[float, float]:
    """Milliseconds a step after `WARM` steps, and seconds from the call to the second step.

    The weight of the rate is computed at each step, so that it serves as a clock.
    """
    marks = []
    def clock(progress):
        marks.append(time.perf_counter())
        return 1.
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few steps hold no target
        train(steps=steps + WARM, batch_size=BATCH, kl_weight=clock, progress=False)
    return (marks[-1] - marks[WARM])/(steps - 1)*1e3, marks[1] - start


def alone(target, compile: bool = False) -> tuple[float, float]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mae = normal_mae(target)
    return timed(partial(fit, mae, compile=compile), 300)


def together(target, members: int, compile: bool = False) -> tuple[float, float]:
    return timed(partial(sweep, normal_mae, [target], range(members), compile=compile),
                 max(1600//members, 15))


def contestants() -> dict:
    "What is timed, by name."
    found, targets = {}, {"VAE": None, "MAE": 1.}
    sweeps = (4, False), (16, False), (64, False), (256, False), (16, True), (64, True)
    for name, target in targets.items():
        found[f"{name}, fit"] = partial(alone, target)
        found[f"{name}, fit, compiled"] = partial(alone, target, True)
        found |= {f"{name}, sweep of {m}{', compiled'*c}": partial(together, target, m, c)
                  for m, c in sweeps}
    return found


if __name__ == "__main__": serve(contestants())
