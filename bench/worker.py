"""What every contestant's process does.

For each name on stdin, it writes milliseconds a step and seconds of preparation to stdout.
"""
import json
import os
import sys
from collections.abc import Callable


def serve(contestants: dict[str, Callable[[], tuple[float, float]]]):
    "Answer until stdin ends. What contestants print goes nowhere."
    answers = os.fdopen(os.dup(1), "w")
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2): os.dup2(silence, stream)
    print(json.dumps(sorted(contestants)), file=answers, flush=True)
    for line in sys.stdin: print(json.dumps(contestants[line.strip()]()), file=answers, flush=True)
