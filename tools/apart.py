"A function in a process of its own, which has imported what takes seconds."
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

IMPORTED = ["torch", "matplotlib.pyplot", "execnb.shell", "nbdev.test"]


def in_a_process(f: Callable, *args):
    "`f(*args)`, in a new process that may start others."
    server = get_context("forkserver")
    server.set_forkserver_preload(IMPORTED)
    with ProcessPoolExecutor(1, server) as one: return one.submit(f, *args).result()
