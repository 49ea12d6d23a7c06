"What comes in as data works, or is refused before any work, by name."

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from mae_nb.all import (
    Labelled, MutualAutoencoder, NormalNet, fit, ready_mae, report, seeded, standard_normal,
)
from torch import nn
from torch.distributions import (
    AffineTransform, Beta, Dirichlet, ExpTransform, Exponential, Gamma, HalfNormal, Independent,
    LogNormal, PowerTransform, SigmoidTransform, TanhTransform, TransformedDistribution, Uniform,
    VonMises,
)
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

with seeded(0):
    X = torch.randn(60, 2)
A = X.numpy()
FRAME = pd.DataFrame(A, columns=["a", "b"])


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def table():
    with seeded(0):
        return ready_mae(2, 0.5, width=8, codes=8)


def shades(levels=65536):
    with seeded(0):
        return ready_mae((4, 4), None, "rounded", width=2, levels=levels)


def short(mae, data, **kw):
    return fit(mae, data, steps=3, batch_size=8, progress=False, **kw)


class Rows(Dataset):
    "Rows that come one by one."

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class Stream(IterableDataset):
    "Rows without a length, a few or without end."

    def __init__(self, rows, forever=False):
        self.rows, self.forever = rows, forever

    def __iter__(self):
        yield from self.rows
        while self.forever:
            yield from self.rows


SAME = {  # what becomes the same table
    "float64": A.astype("f8"),
    "big-endian": A.astype(">f4"),
    "big-endian double": A.astype(">f8"),
    "long double": A.astype("g"),
    "Fortran order": np.asfortranarray(A),
    "reversed twice": A[::-1].copy()[::-1],
    "every second of doubled rows": A.repeat(2, 0)[::2],
    "masked array without a mask": np.ma.array(A),
    "read-only": np.broadcast_to(A, A.shape),
    "matrix": np.matrix(A),
    "needs a gradient": X.clone().requires_grad_(),
    "double": X.double(),
    "transposed": X.T.contiguous().T,
    "frame": FRAME,
    "columns exchanged": FRAME[["b", "a"]],
    "frame of float64": FRAME.astype("f8"),
    "nullable frame": FRAME.astype("Float32"),
    "objects": FRAME.astype(object),
    "another index": FRAME.set_axis(range(5, 65)),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_numbers_give_the_same_model(name):
    given = SAME[name]
    first, second = table(), table()
    short(first, FRAME)
    second.columns = first.columns
    assert torch.equal(second.check_data(given), X) and torch.equal(first.encode(given).mean,
                                                                    first.encode(X).mean)
    short(second, given)
    assert first.fingerprint() == second.fingerprint()


def frame(**columns):
    return FRAME.assign(**columns)


WRONG = {  # what is refused, and what is said of it
    "dates": (frame(b=pd.date_range("2024", periods=60)), "row 0, column 'b'"),
    "times": (frame(b=pd.to_timedelta(range(60), "s")), "column 'b'"),
    "periods": (frame(b=pd.period_range("2024", periods=60)), "column 'b'"),
    "numerals": (frame(b=["1"] * 60), "'1' in row 0, column 'b'"),
    "complex": (frame(b=np.ones(60) + 1j), "column 'b'"),
    "categories of text": (frame(b=pd.Categorical(["x", "y"] * 30)), "'x' in row 0, column 'b'"),
    "None": (frame(b=pd.Series([1.0] * 59 + [None], dtype=object)),
             "missing value in row 59, column 'b'"),
    "NA": (frame(b=pd.array([1] * 59 + [None], dtype="Int64")), "row 59, column 'b'"),
    "NaN": (frame(b=[1.0] * 59 + [np.nan]), "row 59, column 'b'"),
    "lists": (frame(b=[[1.0]] * 60), "[1.0] in row 0, column 'b'"),
    "intervals": (frame(b=pd.interval_range(0, 60)), "column 'b'"),
    "another column": (FRAME.rename(columns={"b": "c"}), "'b' is missing"),
    "one more": (frame(c=1.0), "'c' is not among them"),
    "the same name twice": (pd.concat([FRAME, FRAME], axis=1), "two columns 'a'"),
    "masked": (np.ma.masked_greater(A, 0), "masked values, the first in row"),
    "sparse": (scipy.sparse.csr_matrix(A), "x.toarray()"),
    "sparse tensor": (X.to_sparse(), "x.to_dense()"),
    "list": (A.tolist(), "np.array(x)"),
    "with labels": ((A, np.zeros(60)), "the data alone"),
    "labelled": (Labelled(X, torch.zeros(60)), "the data alone"),
    "dictionary": ({"x": A}, "a dict"),
    "text": ("data.csv", "a str"),
    "None in an array": (np.array([[1.0, None]]), "object"),
    "structured": (np.zeros(3, dtype=[("a", "f4"), ("b", "f4")]), "numbers only"),
    "bytes": (np.array([[b"1", b"2"]]), "numbers only"),
    "date array": (np.zeros((3, 2), "M8[D]"), "datetime64"),
    "truth values": (A > 0, "bool"),
    "whole": (A.astype(int), "floating-point"),
    "a series": (FRAME["a"], "shape (60,), but takes shape (batch, 2)"),
    "one row": (A[0], "x[None]"),
    "one number": (np.float32(1), "a float32"),
    "too many axes": (A[..., None], "x[..., 0]"),
    "no rows": (A[:0], "no rows"),
    "infinite": (np.where(A > 2, np.inf, A) if (A > 2).any() else A * np.inf, "the first in row"),
    "out of range": (A.astype("f8") * 1e300, "torch.float32 can hold"),
    "generator": ((row for row in X), "generator"),
    "iterator": (iter(DataLoader(X)), "iter"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_table_is_refused_before_any_work(name):
    mae = table()
    short(mae, FRAME)
    before = mae.fingerprint()
    given, told = WRONG[name]
    # which would be a share
    entries = ([lambda: short(mae, given)]
               + [lambda: short(mae, X, validation=given)] * (name != "one number"))
    if name not in ("generator", "iterator"):
        entries += [lambda: mae.encode(given), lambda: mae.log_likelihood(given), lambda: report(
            mae, given)]
    for enter in entries:
        with pytest.raises((ValueError, TypeError)) as e:
            enter()
        text = str(e.value)
        assert " got " in text and "but takes" in text, text
        assert told in text or name in ("generator", "iterator"), text
    assert mae.fingerprint() == before


GREY = torch.arange(40 * 16).view(40, 4, 4) % 65536
PICTURES = {
    "int64": GREY,
    "uint16": GREY.numpy().astype("u2"),
    "big-endian uint16": GREY.numpy().astype(">u2"),
    "uint32": GREY.numpy().astype("u4"),
    "uint64": GREY.numpy().astype("u8"),
    "int32": GREY.int(),
    "int16": GREY.short(),
    "uint16 tensor": GREY.to(torch.uint16),
    "every second": GREY.repeat_interleave(2, 0).numpy()[::2],
    "memory-mapped": None,
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_sixteen_bits(name, tmp_path):
    given = PICTURES[name]
    if name == "memory-mapped":
        np.save(tmp_path / "x.npy", GREY.numpy())
        given = np.load(tmp_path / "x.npy", mmap_mode="r")
    mae = shades()
    assert torch.equal(mae.check_data(given), GREY)
    assert torch.equal(mae.encode(given[:5]).mean, mae.encode(GREY[:5]).mean)


@pytest.mark.parametrize(
    "x, told",
    [
        (np.zeros((5, 4, 4, 1), "u1"), "x[..., 0]"),
        (np.zeros((5, 1, 4, 4), "u1"), "x[:, 0]"),
        (np.zeros((5, 16), "u1"), "x.reshape(-1, 4, 4)"),
        (np.zeros((4, 4), "u1"), "x[None]"),
        (np.zeros((5, 4, 4)), "whole numbers"),
        (np.full((5, 4, 4), 256), "256 in row 0, pixel (0, 0)"),
        (np.full((5, 4, 4), -1), "-1 in row 0"),
        (np.zeros((5, 4, 5), "u1"), "shape (5, 4, 5)"),
        (np.zeros((5, 4, 4), bool), "bool"),
        (np.full((5, 4, 4), 2**63, "u8"), "9223372036854775808"),
    ],
)
def test_pictures_that_do_not_fit(x, told):
    with pytest.raises((ValueError, TypeError)) as e:
        shades(256).encode(x)
    assert told in str(e.value)


def test_channels_that_come_last():
    with seeded(0):
        mae = ready_mae((3, 8, 6), None, "rounded", width=2)
    with pytest.raises(ValueError, match="channels come first, x.transpose"):
        mae.encode(np.zeros((5, 8, 6, 3), "u1"))


LOADERS = {
    "Dataset": lambda: Rows(X),
    "of pairs": lambda: TensorDataset(X, torch.zeros(60)),
    "loader": lambda: DataLoader(Rows(X), 8),
    "shuffled": lambda: DataLoader(Rows(X), 8, shuffle=True),
    "of pairs, loaded": lambda: DataLoader(TensorDataset(X, torch.zeros(60)), 8),
    "uneven last batch": lambda: DataLoader(X, 7),
    "batches of one": lambda: DataLoader(X, 1),
    "worker": lambda: DataLoader(Rows(X), 8, num_workers=1),
    "stream": lambda: Stream(X),
    "endless stream": lambda: Stream(X, True),
    "stream, loaded": lambda: DataLoader(Stream(X), 8),
    "a list of batches": lambda: SimpleLoader([X[:8], X[8:20]]),
    "arrays": lambda: SimpleLoader([A[:8], A[8:20]]),
    "frames": lambda: SimpleLoader([FRAME[:8], FRAME[8:20]]),
    "its own batches": lambda: DataLoader(Rows(X), batch_sampler=[[0, 1], [5, 6, 7]]),
}


class SimpleLoader:
    "Anything that can be passed over again."

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


@pytest.mark.parametrize("name", LOADERS)
def test_loaders_of_every_kind(name):
    mae = table()
    assert np.isfinite(short(mae, LOADERS[name]())["elbo"]).all()
    known = name not in ("stream", "endless stream", "stream, loaded", "a list of batches",
                         "arrays", "frames")
    if known:
        short(mae, X, validation=LOADERS[name]())
    else:
        with pytest.raises(ValueError, match="validation got a .* without a length, but takes"):
            short(mae, X, validation=LOADERS[name]())


@pytest.mark.parametrize(
    "loader, told",
    [
        (lambda: DataLoader([]), "without batches"),
        (lambda: DataLoader(Rows([{"x": X[0]}] * 9), 3), "a dict"),
        (lambda: DataLoader(Rows([(X[0][0], 1)] * 9), 3), "shape (3,)"),
        (lambda: DataLoader(["a"] * 9, 3), "a str"),
        (lambda: DataLoader(X, batch_size=None), "x[None]"),
        (lambda: DataLoader(X * np.nan, 8), "NaN"),
        (lambda: Rows([]), "without data"),
        (lambda: DataLoader(Rows(X), 8, collate_fn=list), "shape"),
    ],
)
def test_loaders_that_are_refused(loader, told):
    mae = table()
    before = mae.fingerprint()
    with pytest.raises((ValueError, TypeError)) as e:
        short(mae, loader())
    assert " got " in str(e.value) and told in str(e.value), str(e.value)
    assert mae.fingerprint() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_go_on_are_refused_where_a_run_is_kept(workers, tmp_path):
    loader = DataLoader(Rows(X), 8, num_workers=workers, persistent_workers=True)
    with pytest.raises(ValueError, match="data got a DataLoader with persistent workers"):
        short(table(), loader, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="validation got a DataLoader with persistent workers"):
        short(table(), X, validation=loader, checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Law(nn.Module):
    "A decoder of one parameter a value."

    def __init__(self, law):
        super().__init__()
        self.net, self.law = nn.Linear(2, 2), law

    def forward(self, z):
        return Independent(self.law(self.net(z).exp()), 1)


EDGES = {
    "beta at 0": (lambda a: Beta(a + 1, a + 1), 0.0),
    "beta at 1": (lambda a: Beta(a + 1, a + 1), 1.0),
    "u-shaped beta": (lambda a: Beta(a / (1 + a), a / (1 + a)), 1.0),
    "gamma at 0": (lambda a: Gamma(a + 1, a), 0.0),
    "spiky gamma": (lambda a: Gamma(a / (1 + a), a), 0.0),
    "log-normal at 0": (lambda a: LogNormal(a, 1.0), 0.0),
    "negative": (lambda a: Gamma(a + 1, a), -1.0),
    "beyond one": (lambda a: Beta(a + 1, a + 1), 1.5),
}


@pytest.mark.parametrize("name", EDGES)
def test_a_value_on_the_edge_is_named(name):
    law, value = EDGES[name]
    with seeded(0):
        mae = MutualAutoencoder(NormalNet(2, 2, 8), Law(law), standard_normal(2))
    x = torch.full((30, 2), 0.5)
    short(mae, x)
    x[7, 1] = value
    for enter in (lambda: short(mae, x), lambda: mae.log_likelihood(x)):
        with pytest.raises(ValueError, match=rf"data got {value:g}.* in row 7, column 1") as e:
            enter()
        assert "learning rate" not in str(e.value) and " lr " not in str(e.value)


@pytest.mark.parametrize("law", [lambda a: HalfNormal(a), lambda a: VonMises(a - 1, a)])
def test_an_edge_with_density_is_no_edge(law):
    with seeded(0):
        mae = MutualAutoencoder(NormalNet(2, 2, 8), Law(law), standard_normal(2))
    short(mae, torch.zeros(30, 2))


def behind(base, *steps):
    "A law by a base and transforms."
    return lambda a: TransformedDistribution(base(a), [*steps])


TWO = torch.tensor([1.0, 2.0])
BEHIND = {  # laws, a value of the second column that is inside, and those that are not
    "scaled": (behind(lambda a: Beta(a + 1, a + 1), AffineTransform(0.0, 2.0)), 1.5,
               [0.0, 2.0, -1.0, 2.5]),
    "mirrored": (behind(lambda a: Beta(a + 1, a + 1), AffineTransform(0.0, -1.0)), -0.5,
                 [0.0, -1.0, 0.5]),
    "of each column": (behind(lambda a: Beta(a + 1, a + 1), AffineTransform(TWO, TWO)), 3.0,
                       [2.0, 4.0, 1.5]),
    "moved gamma": (behind(lambda a: Gamma(a + 1, a), AffineTransform(3.0, 1.0)), 3.5, [3.0, 1.0]),
    "u-shaped": (behind(lambda a: Beta(a / (1 + a), a / (1 + a)), AffineTransform(0.0, 2.0)), 0.1,
                 [0.0, 2.0]),
    "log-normal": (behind(lambda a: LogNormal(a, 1.0), AffineTransform(1.0, 1.0)), 1.5,
                   [1.0, 0.5]),
    "exponential of a beta": (behind(lambda a: Beta(a + 1, a + 1), ExpTransform()), 2.0,
                              [1.0, 0.5, 3.0]),
    "twice": (behind(lambda a: Beta(a + 1, a + 1), AffineTransform(0.0, 2.0),
                     AffineTransform(1.0, 2.0)), 2.0, [1.0, 5.0, 6.0]),
    "a power": (behind(lambda a: Beta(a + 1, a + 1), PowerTransform(torch.tensor(2.0)),
                       AffineTransform(0.0, 4.0)), 1.0, [0.0, 4.0, 5.0]),
    "nested": (behind(behind(lambda a: Beta(a + 1, a + 1), AffineTransform(0.0, 2.0)),
                      AffineTransform(-1.0, 1.0)), 0.5, [-1.0, 1.0, 2.0]),
}


@pytest.mark.parametrize("name", BEHIND)
def test_a_value_on_the_edge_behind_transforms_is_named(name):
    law, good, values = BEHIND[name]
    with seeded(0):
        mae = MutualAutoencoder(NormalNet(2, 2, 8), Law(law), standard_normal(2))
    x = mae.sample(30, seed=0)
    x[:, 1] = good
    short(mae, x)
    for value in values:
        x[7, 1] = value
        for enter in (lambda: short(mae, x), lambda: mae.log_likelihood(x)):
            with pytest.raises(ValueError, match=rf"data got {value:g}.* in row 7, column 1"):
                enter()


@pytest.mark.parametrize("law, x", [
    (behind(lambda a: Exponential(a), AffineTransform(1.0, 1.0)), 1.0),
    (behind(lambda a: HalfNormal(a), AffineTransform(0.0, -1.0)), 0.0),
    (behind(lambda a: Uniform(0 * a, 0 * a + 1), AffineTransform(0.0, 2.0)), 0.0),
    (behind(lambda a: VonMises(a - 1, a), AffineTransform(0.0, 2.0)), 9.0),
    (behind(lambda a: LogNormal(a, 1.0), SigmoidTransform()), 0.75),
    (behind(lambda a: Uniform(-a, a), TanhTransform()), 0.0),
])
def test_an_edge_with_density_behind_transforms_is_no_edge(law, x):
    with seeded(0):
        mae = MutualAutoencoder(NormalNet(2, 2, 8), Law(law), standard_normal(2))
    assert mae.elbo(torch.full((30, 2), x)).total.isfinite().all()


def test_a_bound_that_is_trained_or_loaded_is_not_held_against_data():
    class Reaches(nn.Module):
        "Values between 0 and `high`, which is a parameter or a buffer."

        def __init__(self, high, learnt):
            super().__init__()
            high = torch.tensor(high)
            self.net = nn.Linear(2, 2)
            self.high = nn.Parameter(high) if learnt else None
            self.register_buffer("fixed", high)

        def forward(self, z):
            high = self.fixed if self.high is None else self.high
            base = Beta(self.net(z).exp() + 1, 2.0)
            return Independent(TransformedDistribution(base, [AffineTransform(0.0, high)]), 1)

    x = torch.full((5, 2), 3.0)
    for learnt in (True, False):
        small, large = (MutualAutoencoder(NormalNet(2, 2, 8), Reaches(high, learnt),
                                          standard_normal(2)) for high in (2.0, 4.0))
        if not learnt:
            with pytest.raises(ValueError, match="3.0 in row 0, column 0, but takes values in"):
                small.elbo(x)
        small.load_state_dict(large.state_dict())
        assert small.elbo(x).total.isfinite().all()


def test_the_edge_of_a_simplex():
    class Shares(Law):
        def forward(self, z):
            return Dirichlet(self.net(z).exp() + 1)

    with seeded(0):
        mae = MutualAutoencoder(NormalNet(2, 2, 8), Shares(None), standard_normal(2))
    short(mae, torch.full((30, 2), 0.5))
    with pytest.raises(ValueError, match="on the edge"):
        short(mae, torch.tensor([[0.5, 0.5], [1.0, 0.0]]))


def test_what_is_taken_is_found_once():
    calls = []
    mae = table()
    mae.decoder.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(5):
        mae.encode(X)
    assert not calls and SimpleNamespace(**mae.takes._asdict()).shape == (2,)
    mae.double().encode(X)
    assert len(calls) == 1


def test_columns_are_known_wherever_a_frame_comes_in():
    other = FRAME[["b", "a"]]
    with seeded(0):
        carries = ready_mae(2, None, width=8, data=FRAME)
    loaded = table()
    short(loaded, SimpleLoader([FRAME[:8], other[8:20]]))
    for mae in (carries, loaded):
        assert mae.columns == ("a", "b") and torch.equal(mae.encode(other).mean,
                                                         mae.encode(FRAME).mean)


def test_a_run_that_is_refused_leaves_the_columns(tmp_path):
    short(table(), FRAME, checkpoint=tmp_path)
    mae = table()
    with pytest.raises(ValueError, match="checkpoint got"):
        short(mae, FRAME, checkpoint=tmp_path, seed=5)
    assert mae.columns == ()


@pytest.mark.parametrize("batches",
                         [lambda: DataLoader(X, 1), lambda: DataLoader(X[:9], 8), lambda: X[:1]])
def test_a_batch_of_one_for_batch_normalisation(batches):
    with seeded(0):
        encoder = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), NormalNet(8, 2, 8))
        mae = MutualAutoencoder(encoder, NormalNet(2, 2, 8), standard_normal(2))
    with pytest.raises(ValueError,
                       match="data got a batch of one datum, for a net with batch normalisation, "
                             "but takes"):
        short(mae, batches())
    assert mae.encode(X[:1]).mean.isfinite().all()
