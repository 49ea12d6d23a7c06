"What every contestant's process does: answer each name on stdin with milliseconds a step and seconds of preparation, on stdout."
import json
import os
import sys
from collections.abc import Callable


def serve(contestants: dict[str, Callable[[], tuple[float, float]]]):
    "Answer until stdin ends. What contestants print goes nowhere."
    answers = os.fdopen(os.dup(1), "w")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1); os.dup2(silence, 2)
    print(json.dumps(sorted(contestants)), file=answers, flush=True)
    for line in sys.stdin: print(json.dumps(contestants[line.strip()]()), file=answers, flush=True)
