"What it costs to keep a run: `fit` with and without `checkpoint`, in one process, in turns."
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from mae_nb.context import seeded
from mae_nb.nets import standard_normal
from mae_nb.files import Checkpoints
from mae_nb.mae import MutualAutoencoder
from mae_nb.nets import NormalNet
from mae_nb.train import fit

BATCH = 128


class Count:
    "Counts the states written, their bytes and the seconds that took."
    states = seconds = size = 0
    def __init__(self): self.save = Checkpoints.save

    def __call__(self, folder, step, tensors, about):
        start = time.perf_counter()
        self.save(folder, step, tensors, about)
        self.states += 1
        self.seconds += time.perf_counter() - start
        self.size = folder.steps()[0][2].stat().st_size


def timed(width: int, steps: int, checkpoint) -> tuple[float, float]:
    "Seconds of a call of `fit`, on vectors of ten numbers: by the clock, and of the processor."
    with seeded(0):
        x = torch.randn(2000, 10)
        # a plain VAE: nothing but training is timed
        mae = MutualAutoencoder(NormalNet(10, 2, width), NormalNet(2, 10, width),
                                standard_normal(2))
    start, work = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(mae, x, steps=steps, batch_size=BATCH, progress=False, checkpoint=checkpoint)
    return time.perf_counter() - start, time.process_time() - work


def compare(name: str, width: int, steps: int, turns: int):
    "Print the ratio of the times, and what was written."
    count, times = Count(), {False: [], True: []}
    Checkpoints.save = lambda *args: count(*args)
    try:
        timed(width, 5, None)  # what is loaded at the first call
        for turn in range(2*turns):
            # without, with, with, without: a machine that slows down does so for both
            kept = turn % 4 in (1, 2)
            folder = Path(tempfile.mkdtemp())
            times[kept].append(timed(width, steps, folder if kept else None))
            shutil.rmtree(folder)
    finally: Checkpoints.save = count.save
    with seeded(0):
        parameters = sum(p.numel() for d_in, d_out in ((10, 2), (2, 10))
                         for p in NormalNet(d_in, d_out, width).parameters())
    (clock, work), (clock_kept, work_kept) = ([statistics.median(t) for t in zip(*times[k])]
                                              for k in (False, True))
    print(f"{name}: {parameters:,} parameters in training, {steps} steps, {2*turns} runs by turns: "
          f"{clock:.2f} s without, {clock_kept:.2f} s with, "
          f"ratio {clock_kept/clock:.4f} (of the processor's time {work_kept/work:.4f}); "
          f"{count.states/turns:.1f} states a run of {count.size/1e6:.2f} MB, "
          f"{1e3*count.seconds/count.states:.1f} ms each, in all "
          f"{count.seconds/sum(t for t, _ in times[True]):.2%} of the time with", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    quick = "quick" in sys.argv
    compare("small", 96, 600 if quick else 4000, 2 if quick else 4)
    compare("larger", 1210, 60 if quick else 800, 2)
