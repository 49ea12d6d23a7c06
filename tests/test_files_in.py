"Files of every kind, as people have them: they work, or are refused by name before any work."
import os
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mae_nb.data import mnist
from mae_nb.estimator import MutualCodes
from mae_nb.convolutions import conv_in
from mae_nb.heads import BernoulliHead, Columns, NormalHead, TableHead
from mae_nb.models import ready_mae
from mae_nb.scaling import Scale, standard, units
from mae_nb.loading import load
from mae_nb.tables import _number, read_data

A, B = (np.arange(12.).reshape(6, 2)**2/3, np.arange(12).reshape(6, 2)**2)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)


def read(name, content, **how):
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_data(Path(name), **how)


# --- CSV

@pytest.mark.parametrize("field, value", [
    ("1", 1), ("+1", 1), ("-1.5", -1.5), (".5", .5), ("5.", 5), ("1e3", 1e3), ("1E-3", .001),
    (" 7 ", 7), ("\u00a07", 7), ("TRUE", 1), ("inf", np.inf),
    ("-Inf", -np.inf),
    ("1e400", np.inf), ("2020_01", None), ("1_000", None), ("infinity", None), ("１２", None),
    ("٣", None), ("0x10", None), ("1d5", None), ("−5", None),
    ("1,5", None), ("1 000", None), ("e5", None), (".", None), ("1.2.3", None), ("$5", None),
    ("5%", None), ("nan(0x1)", None), ("2020-01-05", None),
    ("12:30", None),
])
def test_what_is_a_number(field, value): assert _number(field) == value


@pytest.mark.parametrize("field", ["", "NA", "n/a", "NaN", "-nan", "NULL", "None", "?"])
def test_what_is_missing(field): assert np.isnan(_number(field))


@pytest.mark.parametrize("text", [
    "0,1,2\n.5,.25,-.1\n.3,.2,.1\n", "1,2,3\n4,5,7\n5,5,5\n", "2019,2020\n14.2,15.1\n13.9,15.5\n",
    "0\n0.25\n1.5\n", "2018,2019,2020\n3,7,2\n5,1,1\n",
    "400.5,401.0,401.5\n.1,.3,.2\n", "0.5,1.5\n3,4\n2,2\n", "7,3\n1.5e0,2\n2.5e0,3\n",
    "10;20;30\n1;5;2\n", "1\t2\t3\n0.1\t0.2\t0.4\n", "0,1,2\n",
    ",0,1\n0,.2,.3\n1,.1,.5\n",
])
def test_numbers_that_look_like_names_are_refused_until_the_user_answers(text):
    if not text.startswith(","):
        ways = r"header=True \(--header yes\) .*header=False \(--header no\)"
        with pytest.raises(ValueError,
                           match=rf"^header got None for a\.csv, whose first line, .*, looks like "
                                 rf"names .*{ways}"):
            read("a.csv", text)
        lines = text.strip().replace("\t", ",").replace(";", ",").split("\n")
        rows = [[float(field) for field in line.split(",")] for line in lines]
        x, names = read("a.csv", text, header=False)
        assert names == [] and np.array_equal(x, rows)
        if len(rows) == 1: pytest.raises(ValueError, read, "a.csv", text, header=True)
        else:
            x, names = read("a.csv", text, header=True)
            assert names == lines[0].split(",") and np.array_equal(x, rows[1:])
    else:
        with pytest.raises(ValueError, match="a column without a name"):
            read("a.csv", text, header=True)


@pytest.mark.parametrize("text", [
    "1,2\n3,4\n", "5.1,3.5\n4.9,3.0\n", "7\n8\n", "2019,2020\n5,9\n", "9,5,1\n8,8,8\n",
    "5,3\n5.1,4\n6,2\n", "5.0,1\n6.5,0\n", "1.5\n", "True,2\nFalse,3\n",
])
def test_other_numbers_are_data_and_a_warning_says_so(text):
    with pytest.warns(UserWarning,
                      match=r"^a\.csv: the first line, .*, is taken as data; header=True "
                            r"\(--header yes\)") as seen:
        x, names = read("a.csv", text)
    assert names == [] and len(x) == text.count("\n") and len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again, _ = read("a.csv", text, header=False)
        assert np.array_equal(x, again) and read("b.csv", "a" + text,
                                                 header=None)[0].shape == (len(x) - 1,
                                                                           x.shape[1]) if len(
                                                                               x) > 1 else True


@pytest.mark.parametrize("content, names, values", [
    ('"a","b"\n"1","2"\n', ["a", "b"], [[1, 2]]),
    ('"a ""x"", y",b\n1,2\n', ['a "x", y', "b"], [[1, 2]]),
    ('"two\nlines",b\n1,2\n', ["two\nlines", "b"], [[1, 2]]),
    ("\ufeffa,b\n1,2\n", ["a", "b"], [[1, 2]]), ("a,b\r\n1,2\r\n", ["a", "b"], [[1, 2]]),
    ("a,b\r1,2\r", ["a", "b"], [[1, 2]]),
    ("\n\na,b\n\n1,2\n   \n\n", ["a", "b"], [[1, 2]]),
    ("a;b\n1;2\n", ["a", "b"], [[1, 2]]), ("a, b;c\n1;2\n", ["a, b", "c"], [[1, 2]]),
    ("a\n1\n2", ["a"], [[1], [2]]), ("ä,β\n1,2\n", ["ä", "β"], [[1, 2]]),
    ("a" * 100_000 + ",b\n1,2\n", ["a" * 100_000, "b"], [[1, 2]]),
    ("a\n" + "0" * 100_000 + "7\n", ["a"], [[7]]),
])
def test_csv_that_works(content, names, values):
    x, found = read("a.csv", content)
    assert found == names and np.array_equal(x, values)


@pytest.mark.parametrize("content, message", [
    ("a,a\n1,2\n", "the name 'a' for several columns of a.csv"),
    ("a,b,a,b\n1,2,3,4\n", "the name 'a' for several"), ("a\n", "a.csv with no rows"),
    ("", "no rows"), ("\n\n", "no rows"),
    ("a;b\n1,5;2\n", "text in column 'a' ('1,5'), but takes columns of numbers, with a decimal "
                     "point and no comma"),
    ("a,b,\n1,2,\n", "lines all end in ','"), (";\n;\n", "lines all end in ';'"),
    ("a,b\n1,2,\n", "3 fields in line 2"), ("a,b\n1\n", "1 fields in line 2 of a.csv, but takes 2"),
    ("a,b\n1,2\n\n3\n", "1 fields in line 4"),
    ("a,b\n1,2\n  \n3,x\n", "('x')"),
    ("a,b\n1,2\n".encode("utf-16"), "not text in UTF-8"),
    ("a,b\n1,2\n".encode("utf-16-le"), "not text in UTF-8"),
    ("ä\n1\n".encode("latin-1"), "not text in UTF-8"),
    ("a,b\n1,\x002\n", "not text in UTF-8"), ('a,b\n"1,2\n3,4\n', "1 fields in line 3"),
    ("a\n" + "1" * 200_000, "line 2 cannot be read (field larger"),
    ("a,\n1,2\n", "a column without a name"),
    ("a,b\n1,2020_01\n", "text in column 'b' ('2020_01')"), ("a\n１２\n", "text in column 'a'"),
    ("a\n1e400\n", "1 missing or infinite values in a.csv, the first in row 0, column 'a'"),
    ('a\n""\n', "missing"), ("a b\n1 2\n", "text in column 'a b' ('1 2')"),
    ("# x\n1,2\n", "2 fields in line 2"), ("PK\x03\x04,\n", "lines all end"),
])
def test_csv_that_is_refused(content, message):
    with pytest.raises((ValueError, TypeError), match="^data got ") as told: read("a.csv", content)
    assert message in str(told.value) and len(str(told.value)) < 300


def test_a_tsv_file_has_tabs_only():
    assert read("a.tsv", "a,b\tc\n1\t2\n")[1] == ["a,b", "c"] and read("B.TSV",
                                                                       "a\n1\n")[1] == ["a"]
    with pytest.raises(TypeError, match=r"text in column 'a' \('1,5'\)"): read("a.tsv", "a\n1,5\n")


# --- NumPy

def saved(x, **how):
    np.save("a.npy", x, **how)
    return Path("a.npy")


@pytest.mark.parametrize("x", [
    A.astype(">f8"), A.astype(">f4"), B.astype(">i2"), B.astype(np.uint16), B.astype(np.uint64),
    A.astype(np.float16), A.astype(np.longdouble),
    np.asfortranarray(A), B > 9, A[::-1, ::2],
    A[:, 0], np.ones((4, 5, 6), ">u2"), B.astype(np.int8), np.broadcast_to(A[:1], (5, 2)),
])
def test_arrays_that_work(x):
    found, names = read_data(saved(x))
    assert names == [] and found.dtype.isnative and found.dtype.itemsize <= 8 and found.ndim > 1
    np.testing.assert_array_equal(found.reshape(x.shape), x)
    torch.as_tensor(np.ascontiguousarray(found).astype(float))


@pytest.mark.parametrize("x, message", [
    (np.array(3.), "a.npy with a single number"), (np.zeros((0, 3)), "a.npy with no rows"),
    (np.zeros((3, 0)), "a.npy, an array of shape (3, 0)"),
    (A + 1j, "a.npy, an array of complex128"),
    (np.array(["1", "2"]), "a.npy, an array of <U1"), (np.array([b"1"]), "a.npy, an array of |S1"),
    (np.zeros(3, [("a", "f8"),
    ("b", "i4")]), "a.npy, an array of [('a', '<f8')"),
    (np.array(["2020-01-01"], "M8[D]"), "a.npy, an array of datetime64[D]"),
    (np.array([5], "m8[s]"), "a.npy, an array of timedelta64[s]"),
    (np.zeros(2, "V3"), "an array of |V3"),
    (np.array([1, None], object), "a.npy, which is damaged or holds Python objects"),
    (np.where(A > 5, np.nan, A),
     "missing or infinite values in a.npy, the first in row 2, column 0"),
    (np.full((2, 2), np.longdouble("1e400")), "4 missing or infinite"),
])
def test_arrays_that_are_refused(x, message):
    with pytest.raises((ValueError, TypeError),
                       match="^data got a.npy|^data got [0-9]+ missing") as told:
        read_data(saved(x, allow_pickle=True))
    assert message in str(told.value)


@pytest.mark.parametrize("arrays, array, message", [
    ({}, None, "got None, but takes the name of one array in a.npz: it holds none"),
    ({"x": A, "y": A}, None, "the name of one array in a.npz: x, y"),
    ({"x": A, "y": A}, "z", "--array got z"),
    ({"data": A, "indices": B, "indptr": B, "shape": B, "format": np.array(b"csr")}, "data",
     "a.npz, a sparse matrix of SciPy"),
    ({"x": np.array([None])}, None, "Python objects"),
    ({"x": A + 1j}, "x", "a.npz, an array of complex128"),
])
def test_npz_that_is_refused(arrays, array, message):
    np.savez("a.npz", **arrays)
    with pytest.raises((ValueError, TypeError)) as told: read_data(Path("a.npz"), array)
    assert message in str(told.value)


def test_names_of_files():
    np.save("A.npy", A)
    Path("A.npy").rename("A.NPY")
    np.savez("b.npz", x=A, y=B)
    assert np.array_equal(read_data(Path("A.NPY"))[0],
                          A) and np.array_equal(read_data(Path("b.npz"), "y")[0], B)
    with pytest.raises(ValueError, match="^header got True for A.NPY"):
        read_data(Path("A.NPY"), header=True)
    whole = Path("A.NPY").read_bytes()
    for cut in (7, 60, len(whole) - 1):
        Path("cut.npy").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="cut.npy, which is damaged"):
            read_data(Path("cut.npy"))
    assert np.array_equal(read_data(Path("b.npz"), "x")[0], np.load("A.NPY", mmap_mode="r"))


# --- MNIST's format

def idx(x, code=8):
    return bytes([0, 0, code, x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape) + x.tobytes()


def images(n, *shape): return idx(np.zeros((n, *(shape or (2, 2))), "u1"))
def labels(n): return idx(np.zeros(n, "u1"))


def lay(files):
    "Files of a folder: names before the dash, and how many data each holds."
    for name, n in files.items():
        Path(name).write_bytes(images(n) if "images" in name else labels(n))


I, L = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TI, TL = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize("files, how, n", [
    ({I: 3, L: 3}, {}, 3), ({"train-images.idx3-ubyte": 3, "train-labels.idx1-ubyte": 3}, {}, 3),
    ({I: 3, L: 3, "fashion-" + I: 4, "fashion-" + L: 4}, {}, 3),
    ({"fashion-" + I: 4, "fashion-" + L: 4}, {}, 4),
    ({I: 3, L: 3, "k-" + I: 4, "k-" + L: 4}, {"prefix": "k-"}, 4),
    ({"a-" + I: 3, "a-" + L: 3, "b-" + I: 4, "b-" + L: 4}, {"prefix": "b-"}, 4),
    ({I: 3, L: 3, TI: 2, TL: 2}, {"part": "test"}, 2),
    ({"emnist-letters-test-images-idx3-ubyte": 5, "emnist-letters-test-labels-idx1-ubyte": 5},
     {"part": "test"}, 5),
    ({I: 3, I + ".gz": 4, L: 3, L + ".gz": 5}, {}, 3),
    ({I: 3, L: 3, I + ".part": 9, I + ".gz.bak": 9, "old " + I + " (1)": 9}, {}, 3),
    ({I: 3, L: 3, "a-" + I: 4}, {"prefix": ""}, 3),
    ({I: 3, L: 3, "train-labels-idx2-int": 4}, {}, 3), ({I: 3, L: 3, "zalando-" + I: 4}, {}, 3),
])
def test_folders_of_mnist(files, how, n):
    lay(files)
    assert len(mnist(".", **how).y) == n


@pytest.mark.parametrize("files, how, message", [
    ({"a-" + I: 3, "a-" + L: 3, "b-" + I: 4, "b-" + L: 4}, {},
     "prefix got None, but takes one of those in .: 'a-', 'b-'"),
    ({I: 3, L: 3}, {"prefix": "a-"}, "without a-train-images-idx3-ubyte"),
    ({I: 3, "a-" + L: 3}, {}, "without train-labels-idx1-ubyte"),
    ({I + ".part": 3, L: 3}, {}, "without train-images"),
    ({}, {}, "without train-images-idx3-ubyte"),
    ({I: 3, L: 3}, {"part": "test"}, "without t10k-images-idx3-ubyte"),
    ({I: 3, L: 2}, {}, "3 pictures in train-images-idx3-ubyte and 2 labels in train-labels"),
    ({I: 3, L: 3}, {"part": "validation"}, "part got 'validation'"),
    ({I: 3, L: images(3)}, {}, "train-labels-idx1-ubyte of shape (3, 2, 2)"),
    ({I: 3, L: idx(np.zeros((3, 8), ">i4"), 12)}, {}, "train-labels-idx1-ubyte of shape (3, 8)"),
    ({I: 3, L: idx(np.zeros(3, ">f4"), 13)}, {}, "train-labels-idx1-ubyte of torch.float32"),
    ({I: labels(3), L: 3}, {}, "train-images-idx3-ubyte of shape (3,)"),
    ({I: images(3, 2, 2, 3), L: 3}, {}, "of shape (3, 2, 2, 3)"),
    ({I: images(0), L: 0}, {}, "of shape (0, 2, 2)"),
    ({I: idx(np.full((3, 2, 2), 300, ">i2"), 11), L: 3}, {},
     "train-images-idx3-ubyte with other values"),
    ({I: idx(np.zeros((3, 2, 2), ">f4"), 13), L: 3}, {}, "grey values"),
    ({I: b"", L: 3}, {}, "does not begin like one"),
])
def test_folders_of_mnist_that_are_refused(files, how, message):
    lay({name: n for name, n in files.items() if isinstance(n, int)})
    for name, content in files.items():
        if isinstance(content, bytes): Path(name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError)) as told: mnist(".", **how)
    assert message in str(told.value)


def test_a_folder_by_the_name_of_a_file():
    "As some programs unpack them."
    Path(I).mkdir()
    lay({L: 3, f"{I}/{I}": 3})
    with pytest.raises(FileNotFoundError, match=f"^folder got . without {I}"): mnist(".")


def test_a_folder_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="^folder got nowhere"): mnist("nowhere")


# --- shapes and units

def warned(f):
    "What a function gives, and its warnings."
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = f()
    return found, [str(w.message) for w in seen if w.category is UserWarning]


@pytest.mark.parametrize("shape, last", [
    ((16, 16, 3), True), ((28, 28, 1), True), ((32, 32, 4), True), ((5, 9, 3), True),
    ((3, 16, 16), False), ((1, 28, 28), False), ((4, 32, 32), False),
                                         ((28, 28), False), ((16, 4), False), ((3, 4, 4), False),
    ((16, 16, 16), False), ((8, 2, 3), False), ((16, 16, 2), False)])
def test_channels_last(shape, last):
    for f in (lambda: ready_mae(shape, None, "bernoulli", width=2), lambda: conv_in(shape, 3)):
        _, told = warned(f)
        assert len(told) == last and all("x.transpose(0, 3, 1, 2)" in text
                                         and f"{shape[0]} channels of {shape[1]} × {shape[2]} "
                                             "pixels" in text for text in told)


ROWS = np.random.default_rng(0).normal(size=(500, 2))
NORMAL = [{"centre": c, "scale": s} for c, s in (
    (0., 1.), ([0., 0.], [1e-9, 1e9]), ([5., 5.], [1e-3, 1.]), (ROWS.mean(0), ROWS.std(0)),
    ([2000., 101325.], [1.5, 12.]), (torch.zeros(2), torch.ones(2)),
    ([1e-30, 0.], [1e-30, 1.]),
    ([1000., 0.], [.0625, 1.]))]
NOISE = [({"centre": c, "scale": s}, where, found) for c, s, where, found in (
    ([0., 3.], [1., 0.], "column 1: constant", [1., 1.]),
    ([.1, 0.], [1.4e-17, 1.], "column 0: a scale", [1., 1.]),
    ([0., .1], np.array([1., 9.5367432e-07], "f4"), "column 1: a scale", [1., 1.]),
    (np.array([0., .1], "f4"), np.array([1., 9.5367432e-06], "f4"), "column 1: a scale", [1., 1.]),
    (torch.tensor([.1, 0.]), torch.tensor([7.45e-9, 1.]), "column 0: a scale", [1., 1.]),
    ([1.7e9, 0.], [5.8, 1.], "column 0: a scale", [5.8, 1.]),
    (3., [0., 0.], "column 0, column 1: constant", [1., 1.]),
    ([-5e8, 1.], [0., 0.], "column 0, column 1: constant", [1., 1.]),
    (np.array([1., 0.], ">f4"), np.array([0., 1.], ">f8"), "column 0: constant", [1., 1.]))]


@pytest.mark.parametrize("how", NORMAL)
def test_scales_that_are_taken_as_they_are(how):
    mae, told = warned(lambda: ready_mae(2, None, **how))
    scale = torch.as_tensor(np.broadcast_to(np.asarray(how["scale"], float), 2).copy()).float()
    centre = torch.as_tensor(np.broadcast_to(np.asarray(how["centre"], float), 2).copy()).float()
    for net in (mae.decoder[1], mae.encoder[0], mae.infomax[0]):
        assert torch.equal(net.scale, scale) and torch.equal(net.centre, centre)
    table = ready_mae(2, None, ["normal", "normal"], **how)
    assert told == [] and torch.equal(table.encoder[0].scaled.scale,
                                      scale) and torch.equal(table.decoder[1].centre, centre)


@pytest.mark.parametrize("how, where, found", NOISE)
def test_scales_that_are_rounding_errors(how, where, found):
    mae, told = warned(lambda: ready_mae(2, None, width=4, **how))
    assert (told[0].startswith(where) and "No scale below 1 is used there." in told[0]
            and len(told) == 1)
    for net in (mae.decoder[1], mae.encoder[0], mae.infomax[0]):
        assert net.scale.tolist() == pytest.approx(found)
    for make, first in ((NormalHead, (2,)), (Scale, (2,)), (TableHead, ["normal"]*2),
                        (Columns, ["normal"]*2)):
        assert warned(lambda make=make, first=first: make(first, **how))[1] == told
    mae.save("run")
    assert torch.equal(warned(lambda: load("run"))[0].decoder[1].scale, mae.decoder[1].scale)


def test_only_normal_columns_have_units():
    how = {"centre": [3., 1., 2.], "scale": [0., 0., 0.]}
    mae, told = warned(lambda: ready_mae(3, None, ["bernoulli", "normal", 3], **how))
    assert (told == ["column 1: constant, so it carries no information. No scale below 1 is used "
                     "there."] and warned(lambda: BernoulliHead((3,)))[1] == [])
    (_, scale), told = warned(lambda: units((3,), [7., 7., 0.], [0., 1e-9, 1e-9]))
    assert [text[:17] for text in told] == ["column 0: constan", "column 1: a scale"]
    assert scale.tolist() == pytest.approx([1., 1., 1e-9])
    _, told = warned(lambda: ready_mae((4, 4), None, centre=np.ones((4, 4)),
                                       scale=np.pad(np.ones((2, 2)), 1)))
    assert (told[0].startswith("value (0, 0), value (0, 1), value (0, 2) and 9 more: constant")
            and len(told) == 1)


@pytest.mark.parametrize("how, name", [
    ({"scale": -1.}, "scale"), ({"scale": 0.}, "scale"), ({"scale": [1., -0.1]}, "scale"),
    ({"scale": [1., 2., 3.]}, "scale"), ({"scale": float("nan")}, "scale"),
    ({"scale": [1e-300, 1.]}, "scale"), ({"scale": 1e300}, "scale"),
    ({"centre": [1e300, 0.]}, "centre"), ({"centre": [float("inf"), 0.]}, "centre"),
    ({"centre": "far"}, "centre"), ({"centre": [[0., 0.]]}, "centre"),
    ({"centre": None}, "centre"), ({"centre": [0., [1.]]}, "centre")])
def test_units_that_are_refused(how, name):
    with pytest.raises(ValueError, match=f"^{name} got .*, but takes (finite|positive)"):
        ready_mae(2, None, **how)


@pytest.mark.parametrize("n", [10, 100, 1000, 5000])
@pytest.mark.parametrize("value", [.1, 1/3, 123.456])
def test_a_constant_column_of_single_precision(n, value):
    "What NumPy and torch make of it, and `standard`."
    x = np.random.default_rng(0).normal(size=(n, 2)).astype("f4")
    x[:, 1] = value
    t = torch.tensor(x)
    for centre, scale in ((x.mean(0), x.std(0)), (t.mean(0), t.std(0)), standard(x),
                          (x.mean(0, dtype=float), x.std(0, dtype=float))):
        (_, found), told = warned(lambda c=centre, s=scale: units((2,), c, s))
        assert (found[1] == 1 and len(told) == 1 and told[0].startswith("column 1: ")
                and found[0] == pytest.approx(x[:, 0].std(), rel=1e-2 if n < 1000 else 1e-3,
                                              abs=.06))


def test_standard():
    "Against NumPy in double precision; exactly 0 where nothing varies, one number for all pixels."
    x = np.random.default_rng(0).normal(5, 2, (1000, 3)).astype("f4")
    wide = np.column_stack([x, np.full(1000, .1)])  # whose standard deviation is 1e-17
    centre, scale = standard(wide)
    np.testing.assert_allclose(centre, wide.mean(0), rtol=1e-12)
    np.testing.assert_allclose(scale[:3], wide[:, :3].std(0), rtol=1e-12)
    assert scale[3] == 0 < wide[:, 3].std()
    for some in (x, x.astype(np.float16), np.full((10_000, 2), 7.1, "f4"), (20*x).astype(np.uint8),
                 x > 5):
        np.testing.assert_allclose(standard(some),
                                   (some.astype(float).mean(0), some.astype(float).std(0)),
                                   rtol=1e-12, atol=1e-12)
    pictures = x.reshape(100, 10, 3)
    np.testing.assert_allclose(standard(pictures), (x.astype(float).mean(), x.astype(float).std()),
                               rtol=1e-12)


def test_a_constant_column_changes_no_other_number():
    "The likelihood of a row gains at most what the smallest variance allows: 5 nats, not 14."
    x = np.random.default_rng(0).normal(size=(400, 3)).astype("f4")
    x[:, 2] = .1
    with pytest.warns(UserWarning, match="column 2: constant"):
        est = MutualCodes(.2, steps=200, width=8, tol=9.).fit(x)
    assert 0 < est.score(x) - MutualCodes(.2, steps=200, width=8,
                                          tol=9.).fit(x[:, :2]).score(x[:, :2]) < 5


# --- another default dtype

BUILT = """
import torch, numpy as np, warnings
warnings.simplefilter('ignore')
torch.set_default_dtype(torch.float64)
from mae_nb.all import *
from mae_nb.estimator import MutualCodes
x = np.random.default_rng(0).normal(size=(64, 3))
models = [ready_mae(3, None), ready_mae(3, None, 'bernoulli'),
          ready_mae(3, None, 'categorical', levels=3), ready_mae(3, None, 'rounded'),
          ready_mae(3, None, 'logistics', levels=9), ready_mae(3, None, ['normal', 'bernoulli', 4]),
          ready_mae((8, 8), None, 'bernoulli'), ready_mae((3, 8, 8), None),
          ready_mae(3, .1, centre=x.mean(0).astype('f4'), scale=x.std(0)), pixel_mae((6, 6), None),
          pixel_mae((4, 4), None, 'categorical', kernels=None, levels=3),
          ready_mae(3, None, dtype=torch.float32)]
for i, mae in enumerate(models):
    want = torch.float32 if i == 11 else torch.float64
    assert {p.dtype for p in mae.parameters()} == {want}, i
    data = mae.sample(16, seed=0)
    if i != 8: fit(mae, data, steps=2, batch_size=8, progress=False)
    assert mae.encode(data).mean.dtype == want and mae.elbo(data).total.isfinite().all(), i
codes = MutualCodes(steps=5, width=8).fit(x)
assert codes.transform(x).dtype == np.float64 and np.isfinite(codes.score(x))
models[8].save('run'); assert torch.equal(load('run').decoder[1].scale, models[8].decoder[1].scale)
torch.set_default_dtype(torch.float32)
assert torch.equal(load('run').encode(x).mean, models[8].encode(x).mean)
print('all built')
"""


def test_ready_models_under_double_precision():
    where = {"PYTHONPATH": str(Path(units.__code__.co_filename).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", BUILT], capture_output=True, text=True,
                          env=os.environ | where)
    assert done.stdout == "all built\n", done.stderr
