"`make bench`: milliseconds a member and step of everyone, in turns, and the ratios of each turn."
import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

RATIOS = [ # (quotient, divisor, asked at least)
    ("VAE, sweep of 16", "VAE, fit", 5.),
    ("VAE, sweep of 64", "VAE, fit", 6.),
    ("MAE, sweep of 16", "MAE, fit", 5.),
    ("MAE, sweep of 64", "MAE, fit", 6.),
    ("VAE, sweep of 16, compiled", "VAE, fit", 5.),
    ("MAE, sweep of 16, compiled", "MAE, fit", 5.),
    ("MAE, sweep of 64, compiled", "MAE, fit", 6.),
    ("VAE, fit", "VAE, pythae", 2.),
    ("VAE, fit, compiled", "VAE, pythae", 2.),
    ("VAE, sweep of 16", "VAE, pythae", 10.),
    ("VAE, sweep of 16, compiled", "VAE, pythae", 10.),
    ("VAE, sweep of 16", "VAE, JAX of 16", .4),
    ("VAE, sweep of 16, compiled", "VAE, JAX of 16", .6),
    ("VAE, sweep of 64, compiled", "VAE, JAX of 64", None),
    ("VAE, sweep of 256", "VAE, sweep of 64", 1.),
    ("MAE, sweep of 256", "MAE, sweep of 64", 1.)]


def members(name: str) -> int:
    return int(name.split(" of ")[1].split(",")[0]) if " of " in name else 1
def spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.3f} {min(values):8.3f} {max(values):8.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5,
                        help="times that everyone is measured (default: 5)")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    args = parser.parse_args()
    here = Path(__file__).parent
    workers = [subprocess.Popen([sys.executable, here/f"{side}.py"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True, cwd=here)
               for side in ("ours", "pythae_side", "jax_side")]
    asked = {name: worker for worker in workers for name in json.loads(worker.stdout.readline())}
    time: dict[str, list[float]] = {name: [] for name in asked}
    first: dict[str, float] = {}
    # the first turn warms up and is not counted
    for turn in range(args.turns + 1):
        for name, worker in asked.items():
            print(name, file=worker.stdin, flush=True)
            ms, prepared = json.loads(worker.stdout.readline())
            if turn: time[name].append(ms/members(name))
            else: first[name] = prepared
        print(f"turn {turn} of {args.turns}", file=sys.stderr)
    for worker in workers: worker.stdin.close()
    lines = [f"Nets 1-64-64-2, batch 128, {os.cpu_count()} cores. Milliseconds a step and member, "
             f"of {args.turns} turns.", "",
             f"{'':32}   median      min      max   seconds to the second step"]
    lines += [f"{name:32} {spread(values)}   {first[name]:.2f}" for name, values in time.items()]
    lines += ["", "Times as many steps of a member in the same time, turn by turn.", "",
              f"{'':62}   median      min      max      asked"]
    for quick, slow, least in RATIOS:
        ratio = spread([b/a for a, b in zip(time[quick], time[slow])])
        lines.append(f"{f'{quick}  /  {slow}':62} {ratio}   {f'{least:8.1f}' if least else ''}")
    lines += ["", "Highest memory of a fresh process, MB (asked: 256 members under 2,000).", ""]
    lines += [f"{f'{name}, sweep of {m}':32} {memory(target, m):8.0f}"
              for name, target in (("VAE", None), ("MAE", 1.)) for m in (64, 256)]
    table = "\n".join(line.rstrip() for line in lines) + "\n"
    print(table)
    if args.out: args.out.write_text(table)


def memory(target: float | None, members: int) -> float:
    "Peak of a process that trains a sweep for a few steps, in MB."
    code = f"""import re, warnings; warnings.simplefilter('ignore')
from mae_nb.models import normal_mae; from mae_nb.train import sweep
sweep(normal_mae, [{target}], range({members}), steps=5, batch_size=128, progress=False)
print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])/1024)"""
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                                check=True).stdout)


if __name__ == "__main__": main()
