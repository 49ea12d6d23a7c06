"The same VAE step in JAX, the loop compiled whole (`jit` of `scan`, `vmap` for many): a limit."
import time
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from worker import serve

BATCH, SIZES, LR = 128, (1, 64, 64, 2), 3e-3
X = norm.ppf((jnp.arange(10_000) + .5)/10_000)[:, None]


def linear(key, a, b):
    return jax.random.uniform(key, (a, b), minval=-a**-.5, maxval=a**-.5), jnp.zeros(b)
def net(key):
    return [linear(k, a, b) for k, a, b in zip(jax.random.split(key, 3), SIZES, SIZES[1:])]


def normal(layers, a):
    "Mean and log-variance."
    for w, b in layers[:-1]: a = jax.nn.silu(a @ w + b)
    mean, log_variance = jnp.split(a @ layers[-1][0] + layers[-1][1], 2, -1)
    return mean, jnp.clip(log_variance, -10, 10)


def loss(nets, x, key):
    mean, log_variance = normal(nets[0], x)
    z = mean + jnp.exp(log_variance/2)*jax.random.normal(key, mean.shape)
    x_mean, x_log_variance = normal(nets[1], z)
    rate = (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum(-1)/2
    distance = (x - x_mean)**2*jnp.exp(-x_log_variance)
    return (rate + (distance + x_log_variance + np.log(2*np.pi)).sum(-1)/2).mean()


def shortened(g):
    norm = jnp.sqrt(sum((a**2).sum() for a in jax.tree.leaves(g)))
    return jax.tree.map(lambda a: a/jnp.maximum(norm, 1.), g)


def step(carry, key):
    "One step of Adam on a random batch, each net's gradient shortened to length one."
    nets, m, v, t = carry
    k1, k2 = jax.random.split(key)
    value, g = jax.value_and_grad(loss)(nets, X[jax.random.randint(k1, (BATCH,), 0, len(X))], k2)
    g, t = [shortened(part) for part in g], t + 1
    m = jax.tree.map(lambda a, b: .9*a + .1*b, m, g)
    v = jax.tree.map(lambda a, b: .999*a + .001*b*b, v, g)
    def moved(p, a, b): return p - LR*(a/(1 - .9**t))/(jnp.sqrt(b/(1 - .999**t)) + 1e-8)
    return (jax.tree.map(moved, nets, m, v), m, v, t), value


@cache
def program(members: int, steps: int):
    "The compiled loop and what it starts from."
    def run(nets, keys):
        zero = jax.tree.map(jnp.zeros_like, nets)
        return jax.lax.scan(step, (nets, zero, zero, 0.), keys)
    keys = jax.random.split(jax.random.key(0), (members, steps))
    nets = jax.vmap(lambda k: [net(k), net(jax.random.fold_in(k, 1))])(keys[:, 0])
    given = (nets, keys) if members > 1 else jax.tree.map(lambda a: a[0], (nets, keys))
    f = jax.jit(jax.vmap(run) if members > 1 else run)
    jax.block_until_ready(f(*given))
    return f, given


def train(members: int) -> tuple[float, float]:
    steps = max(4800//members, 30)
    start = time.perf_counter()
    f, given = program(members, steps)
    prepared = time.perf_counter()
    jax.block_until_ready(f(*given))
    return (time.perf_counter() - prepared)/steps*1e3, prepared - start


if __name__ == "__main__":
    serve({f"VAE, JAX of {members}": partial(train, members) for members in (1, 16, 64)})
