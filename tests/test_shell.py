"The commands as a shell runs them: formats, likelihoods, mistakes, exit codes; stop and resume."
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mae_nb import runs, shell
from mae_nb.context import seeded
from mae_nb.loading import load
from mae_nb.mae import MutualAutoencoder
from mae_nb.models import pixel_mae, sequence_mae, text_mae
from mae_nb.tables import _number, _read_csv, as_csv, column, read_data
from mae_nb.training.run import mean_elbo
from mae_nb.training.feed import held_out
from torch.testing import assert_close

COMMANDS = "mae_train", "mae_info", "mae_encode", "mae_sample", "mae_figures"
RNG = np.random.default_rng(0)
TABLE = np.stack([170 + 10*RNG.normal(size=60), RNG.integers(2, size=60), RNG.integers(3, size=60)],
                 1)
QUICK = "--target none --steps 3 --batch-size 16 --width 4 --quiet"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    "A folder for each test, with a table in it; no time is spent on why a target is missed."
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text(as_csv(["height", "left", "kind"], TABLE))
    certificate = MutualAutoencoder.certificate
    def brief(self, tol=.02, **how): return certificate(self, tol, **how | {"explain": False})
    monkeypatch.setattr(MutualAutoencoder, "certificate", brief)


@pytest.fixture
def sh(capsys, monkeypatch):
    "A function: a line, run as the script of its command does -> exit code, stdout and stderr."
    def run(line):
        name, *words = line.split()
        code, module = 0, "poster" if name == "mae_figures" else "shell"
        monkeypatch.setattr(sys, "argv", [name, *words])
        try:
            exec(compile(f"from mae_nb.{module} import {name}\n{name}()", name, "exec"),
                 {"__name__": "__main__", "__file__": name})
        except SystemExit as e: code = e.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err
    return run


def weights(folder): return next(Path(folder).glob("weights-*")).read_bytes()


# --- files

@pytest.mark.parametrize("text, names, values", [
    ("a,b\n1,2\n3,4\n", ["a", "b"], [[1, 2], [3, 4]]),
    ("a;b\r\n1;2\r\n\r\n3;4\r\n", ["a", "b"], [[1, 2], [3, 4]]),
    ("\ufeffa\tb\n1\t2e3\n", ["a", "b"], [[1, 2000]]),
    ('"a, or b" , c\n"1", 2\n', ["a, or b", "c"], [[1, 2]]),
    ("yes\nTrue\nfalse\n", ["yes"], [[1], [0]]),
    ("name,2019,2020\n1,2,3\n", ["name", "2019", "2020"], [[1, 2, 3]]),
])
def test_csv(text, names, values):
    Path("a.csv").write_bytes(text.encode())
    x, found = read_data(Path("a.csv"))
    assert found == names and np.array_equal(x, values)


def test_missing_fields_are_no_header():
    Path("a.csv").write_text("1,NA\n,4\n")
    x, names = _read_csv(Path("a.csv"), header=False)
    assert names == [] and np.isnan(x).tolist() == [[False, True], [True, False]]
    assert _number("x") is None and column(["a"], 0) == "column 'a'"


@pytest.mark.parametrize("array",
                         [TABLE, TABLE.astype(np.float32), TABLE.astype(np.int16), TABLE > 1,
                          np.arange(4), np.zeros((5, 2, 2), np.uint8)])
def test_numpy_files(array):
    np.save("a.npy", array)
    np.savez("a.npz", array)
    np.savez_compressed("b.npz", x=array, y=array[:1])
    for x, _ in (read_data(Path("a.npy")), read_data(Path("a.npz")), read_data(Path("b.npz"), "x")):
        assert np.array_equal(x.reshape(array.shape), array)
        assert x.ndim > 1 and x.dtype == array.dtype


class Attack:
    "Unpickled, it writes a file."
    def __reduce__(self): return Path.touch, (Path("attacked"),)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "raw.npy"])
def test_pickles_are_not_run(sh, name):
    objects = np.array([Attack()], dtype=object)
    if name == "a.npy": np.save(name, objects, allow_pickle=True)
    elif name == "a.npz": np.savez(name, x=objects)
    else: Path(name).write_bytes(pickle.dumps(Attack()))
    code, _, err = sh(f"mae_train {name} --out run {QUICK}")
    assert code == 1 and "pickles are not read" in err and not Path("attacked").exists()
    loaded = np.load(name, allow_pickle=True)
    if name == "a.npz": _ = loaded["x"]
    assert Path("attacked").exists()  # the attack works where pickles are read


@pytest.mark.parametrize("name, content, message", [
    ("none.csv", None, "data got none.csv, but takes a file that exists"),
    ("a.xls", b"1", "data got a.xls, but takes a file that ends in"),
    ("a.csv", b"", "no rows"), ("a.csv", b"a,b\n", "no rows"),
    ("a.csv", b"a,b\n1,2\n1\n", "1 fields in line 3 of a.csv, but takes 2"),
    ("a.csv", b"a,b,c\n1,red,2\n2,blue,x\n", "text in column 'b' ('red'), column 'c' ('x')"),
    ("a.csv", b"1;2\n1,5;3\n",
     "column 0 ('1,5'), but takes columns of numbers, with a decimal point"),
    ("a.csv", b",b\n0,1\n", "a column without a name"),
    ("a.csv", b"a,b\n1,2\n3,\nNA,inf\n",
     "3 missing or infinite values in a.csv, the first in row 1, column 'b'"),
    ("a.csv", b"\xff\xfe\x00", "not text in UTF-8"), ("a.csv", b"a,b\n1,\x002\n", "data got "),
    ("a.npy", b"", "damaged"), ("a.npy", b"hello", "damaged"),
    ("a.npz", b"PK\x03\x04broken", "damaged"),
])
def test_bad_files(sh, name, content, message):
    if content is not None: Path(name).write_bytes(content)
    code, out, err = sh(f"mae_train {name} --out run {QUICK}")
    assert (code == 1 and message in err and err.startswith("mae_train: ") and not out
            and not Path("run").exists())


@pytest.mark.parametrize("array, message", [
    (np.array(3.), "a single number"), (np.zeros((0, 2)), "no rows"),
    (np.zeros(3, complex), "complex128"), (np.array(["a"]), "an array of <U1"),
    (np.array([[1, np.nan], [np.inf, 0]]),
     "2 missing or infinite values in a.npy, the first in row 0, column 1"),
    (np.full((2, 3, 3), np.nan), "the first in row 0, pixel (0, 0)"),
    (np.arange(3.).reshape(3, 1, 1, 1, 1), "shape got"), (np.array([[1e300], [0]]), "got"),
    (np.full((3, 4, 4), 7), "pictures of one value, 7"),
])
def test_bad_arrays(sh, array, message):
    np.save("a.npy", array)
    code, _, err = sh(f"mae_train a.npy --out run {QUICK}")
    assert code == 1 and message in err


def test_an_npz_of_several_arrays_wants_a_name(sh):
    np.savez("a.npz", x=TABLE, y=TABLE)
    assert sh(f"mae_train a.npz --out run {QUICK}")[
        2] == "mae_train: --array got None, but takes the name of one array in a.npz: x, y.\n"
    assert sh(f"mae_train a.npz --array z --out run {QUICK}")[0] == 1
    assert sh(f"mae_train table.csv --array x --out run {QUICK}")[0] == 1
    assert sh(f"mae_train a.npz --array y --out run {QUICK}")[0] == 0


def test_header(sh):
    rows = "".join(f"{a:.3f},{b:.3f}\n" for a, b in np.random.default_rng(0).normal(size=(40, 2)))
    Path("a.csv").write_text("2019,2020\n" + rows)
    code, _, err = sh(f"mae_train a.csv --out run {QUICK}")
    assert (code == 1 and err.startswith("mae_train: header got None for a.csv, whose")
            and not Path("run").exists())
    assert sh(f"mae_train a.csv --out run --header yes {QUICK}") == (0, "", "")
    assert sh("mae_encode run a.csv --header yes --out codes.npy") == (0, "", "")
    assert np.load("codes.npy").shape == (40,
                                          2) and Path(
                                              "run/columns.json").read_text() == '["2019", "2020"]'
    assert (sh(f"mae_train a.csv --out other --header no {QUICK}")[0] == 0
            and Path("other/columns.json").read_text() == "[]")
    Path("b.csv").write_text(rows)
    code, _, err = sh("mae_encode run b.csv --out codes.npy")
    assert code == 0 and err.count("\n") == 1 and "is taken as data" in err


# --- models

@pytest.mark.parametrize("array, options", [
    (TABLE, "normal"), (TABLE.astype(int), "normal"), (TABLE, "normal,bernoulli,3"),
    (TABLE[:, 1] > 0, "bernoulli"), (TABLE[:, 2], "categorical --levels 3"),
    (TABLE[:, 2], "3"), (TABLE, "rounded"), (TABLE.astype(np.uint8), "logistics"),
    (RNG.random((40, 4, 4)), "normal"),
    (RNG.integers(2, size=(40, 1, 4, 5)), "bernoulli"),
    (RNG.integers(17, size=(40, 4, 4)), "rounded --levels 17"),
])
def test_likelihoods(sh, array, options):
    array = array.round() if "rounded" in options else array
    np.save("a.npy", array)
    assert sh(f"mae_train a.npy --out run --likelihood {options} {QUICK}")[0] == 0
    assert sh("mae_encode run a.npy --out codes.npy")[0] == sh("mae_sample run -n 7 --out new.npy")[
        0] == 0
    codes, new = np.load("codes.npy"), np.load("new.npy")
    assert codes.shape == (len(array), 2) and new.shape == (7,
                                                            *(
                                                                array.shape[1:] or (
                                                                    1,))) and np.isfinite(
                                                                        codes).all()
    # samples are data
    assert sh(f"mae_train new.npy --out again --likelihood {options} {QUICK}")[0] == 0


@pytest.mark.parametrize("array, options, message", [
    (TABLE, "bernoulli", "column 0, but takes whole numbers from 0 to 1 there"),
    (TABLE, "normal,bernoulli,2", "data got 2 in row"),
    (TABLE + .5, "normal,normal,3", "column 2, but takes whole numbers from 0 to 2"),
    (-TABLE.round(), "rounded", "from 0 to 255"),
    (TABLE, "categorical", "levels got None"),
    (TABLE, "poisson", "likelihood got 'poisson', but takes one of"),
    (TABLE, "normal,normal", "likelihood got 2 kinds"),
    (TABLE, "normal,poisson,3", "likelihood got the column 'poisson'"),
    (TABLE, "normal --latents 0", "latents got 0"), (TABLE, "normal --width -1", "width got -1"),
    (TABLE, "normal --seed -1", "seed got -1"), (TABLE, "normal --lr 0", "lr got 0.0"),
    (TABLE, "normal --validation 2", "validation got 2.0"),
    (TABLE, "normal --threads 0", "--threads got 0"),
    (TABLE, "normal --target -1", "target got -1.0"),
    (TABLE, "normal --target nan", "target got nan"),
    (TABLE[:, 2], "categorical --levels 3 --target 2",
     "target got 2.0 nats, but takes at most 1.0986"),
    (TABLE, "normal --stop", "stop got 0.05, but takes None for a plain VAE"),
])
def test_bad_options(sh, array, options, message):
    np.save("a.npy", array)
    code, _, err = sh(f"mae_train a.npy --out run {QUICK} --likelihood {options}")
    assert code == 1 and message in err and not Path("run/model.json").exists()


def test_normal_columns_are_scaled_inside(sh):
    "Ten times the data: the same weights, and a log-likelihood less by log 10 for each column."
    np.save("a.npy", TABLE)
    np.save("b.npy", 10*TABLE)
    for name in "ab": assert sh(f"mae_train {name}.npy --out {name} {QUICK}")[0] == 0
    a, b = load("a"), load("b")
    assert_close(a.state_dict(), b.state_dict(), atol=1e-4, rtol=1e-3)
    x = runs.suited(a, TABLE)
    z = a.prior.sample((len(x),))
    assert_close(a.decoder(z).log_prob(x) - 3*np.log(10), b.decoder(z).log_prob(10*x), atol=1e-2,
                 rtol=1e-3)


def test_columns_that_single_precision_or_nobody_can_use_are_named(sh):
    Path("a.csv").write_text("same,time,good\n"
                             + ''.join(f"5,{1.7e9 + i},{i}\n" for i in range(20)))
    code, _, err = sh(f"mae_train a.csv --out run {QUICK}")
    assert (code == 0 and "mae_train: column 'same': constant, so" in err
            and "mae_train: column 'time': a scale of the size of rounding errors" in err)
    assert len(err.splitlines()) == 2 and "good" not in err and load("run").decoder[1].scale[0] == 1
    assert sh("mae_info run")[2] == sh("mae_encode run a.csv")[2] == ""  # once is enough


# --- runs

def test_what_a_run_leaves(sh):
    code, out, err = sh("mae_train table.csv --target .01 --tol 9 --steps 4 --width 4 --out run")
    assert code == 0 and "asked 0.01 ± 9 nats: held" in out and "4/4" in err
    (rest, aside), mae = held_out(torch.tensor(TABLE).float(), .1, 0), load("run")
    with seeded(0): assert f"set aside: {mean_elbo(mae, aside):.4f} nats" in out and len(rest) == 54
    assert {p.name for p in Path("run").iterdir()} >= {"model.json", "curves.csv", "columns.json"}
    code, out, _ = sh("mae_info run")
    assert (code == 0 and "0.01 nats" in out and "steps        4\n" in out
            and "likelihood='normal'" in out
            and Path("run/curves.png").read_bytes().startswith(b"\x89PNG"))
    assert sh("mae_info run --png else/where.png")[0] == 0 and Path("else/where.png").exists()
    code, out, _ = sh("mae_sample run -n 3")
    assert code == 0 and out.splitlines()[0] == "height,left,kind" and len(out.splitlines()) == 4
    assert sh("mae_sample run -n 3")[1] == out != sh("mae_sample run -n 3 --seed 1")[1]
    Path("new.csv").write_text(out)
    assert (sh("mae_encode run new.csv")[1].splitlines()[0] == "z0,z1"
            and sh("mae_encode run new.csv --out codes.csv")[0] == 0)
    assert read_data(Path("codes.csv"))[0].shape == (3, 2)


def test_codes_are_the_encoders_means_whatever_the_batch(sh):
    assert sh(f"mae_train table.csv --out run {QUICK}")[0] == 0
    np.save("many.npy", np.tile(TABLE, (100, 1)))
    assert sh("mae_encode run many.npy --out codes.npy")[0] == 0
    mae = load("run")
    assert_close(np.load("codes.npy")[-60:],
                 mae.encode(runs.suited(mae, TABLE)).mean.detach().numpy())


def test_looks_survive_the_file(sh):
    assert sh("mae_train table.csv --target .01 --stop 9 --steps 400 --width 4 --latents 1 "
              "--batch-size 8 --out run --quiet")[0] in (0, 3)
    history = runs.read_curves(Path("run/curves.csv"))
    assert len(history) == 400 and history.looks["step"].tolist() == [200, 400]
    assert history.looks.keys() == {"step", "validation", "low", "high"}
    assert all(np.isfinite(values).all()
               for values in (*history.looks.values(), *history.series.values()))


def test_stop_alone_takes_the_tolerance(sh, monkeypatch):
    "Of the three ways to say when to stop, none is carried as NaN."
    seen, fit = [], runs.fit
    monkeypatch.setattr(runs, "fit", lambda *args, stop=None, **how: seen.append(stop)
                        or fit(*args, stop=stop, **how))
    for name, stop in (("a", "--stop"), ("b", "--stop 1"), ("c", "")):
        assert sh(f"mae_train table.csv --target .01 --tol 9 --steps 3 --width 4 --out {name} "
                  f"--quiet {stop}")[0] == 0
    assert seen == [9., 1., None]


@pytest.mark.parametrize("why, message",
                         [("estimator", "it is undecided whether the target is held"),
                          ("missed", "the target is not held")])
def test_undecided_is_not_not_held(sh, monkeypatch, why, message):
    certificate = MutualAutoencoder.certificate
    def other(mae, tol=.02, **how):
        mae.certified = certificate(mae, tol, **how)._replace(held=False,
                                                              why=why), mae.fingerprint()
        return mae.certified[0]
    monkeypatch.setattr(MutualAutoencoder, "certificate", other)
    code, _, err = sh("mae_train table.csv --target .01 --tol 9 --steps 2 --width 4 --out run "
                      "--quiet")
    assert code == 3 and err == f"mae_train: {message}; the model is in run all the same\n"


def make_pixel(): return pixel_mae((4, 4), 1., width=4)
def make_text(): return text_mae(9, 5, 1., latents=2, width=8)
def make_sequence(): return sequence_mae(.5, length=4, width=8)


@pytest.mark.parametrize("make, shape",
                         [(make_pixel, "(4, 4)"), (make_text, "(5,)"), (make_sequence, "(4,)")])
def test_info_of_every_ready_model(make, shape):
    "In a process of its own, which has imported the commands and nothing else."
    make().save("run")
    done = subprocess.run([sys.executable, "-c",
                           "from mae_nb.shell import mae_info; mae_info('run')"],
                          capture_output=True, text=True, env=environment())
    assert done.returncode == 0 and f"shape {shape}" in done.stdout and make.__name__[
        5:] + "_mae(" in done.stdout, done.stderr


def test_target_not_held(sh):
    code, out, err = sh("mae_train table.csv --target 1 --steps 2 --width 4 --latents 1 --out run "
                        "--quiet")
    assert (code == 3 and err == "mae_train: the target is not held; the model is in run all the "
                                 "same\n" and out == "" and load("run").target == 1)


def test_usage(sh):
    for line in ("mae_train", "mae_train table.csv --out run",
                 "mae_train table.csv --out run --target two", "mae_info", "mae_encode run",
                 "mae_sample run -n x",
                 "mae_sample run --out new.txt", "mae_encode run table.csv --out -",
                 "mae_train table.csv --target 1 --out run --header perhaps",
                 "mae_figures 4 7", "mae_figures five", "mae_figures --steps 0",
                 "mae_figures --seed -1", "mae_figures --jobs 0"):
        assert sh(line)[0] == 2
    assert sh("mae_figures 7")[2] == "mae_figures: error: N got 7, but takes 4, 5 or 6\n"


OPTIONS = {
    "mae_train": ["data", "--target NATS", "--out RUN", "--array NAME", "--header yes|no",
                  "--likelihood KIND", "--levels N", "--latents N", "--of AMOUNT", "--width N",
                  "--steps N", "--batch-size N", "--lr RATE", "--seed N", "--validation SHARE",
                  "--tol NATS", "--stop [NATS]", "--threads N", "--quiet"],
    "mae_info": ["run", "--png PATH"], "mae_sample": ["run", "-n N", "--out PATH", "--seed N"],
    "mae_encode": ["run", "data", "--array NAME", "--header yes|no", "--out PATH"],
    "mae_figures": ["N", "--out DIR", "--steps N", "--seed N", "--jobs N"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help(sh, monkeypatch, name):
    "Every argument with its help, the same when printed again; optional ones stand in brackets."
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = sh(f"{name} --help")
    assert code == 0 and sh(f"{name} --help")[1] == out and out.startswith(f"usage: {name} [-h] ")
    lines = {line.split("  ")[1].strip(): line.split("  ")[-1].strip() for line in out.splitlines()
             if re.match(r"  \S", line)}
    assert {*lines} - {"-h, --help"} == {*OPTIONS[name]}
    assert all(len(text) > 5 and text.count("(default") <= 1 for text in lines.values())
    given = out[:out.index("\n\n")]
    for option in OPTIONS[name]:
        if option.startswith("-"):
            optional = option not in ("--target NATS", "--out RUN")
            assert (f"[{option}]" in given) == optional, option


def test_commands_are_functions(sh, capsys):
    "With arguments, from Python: the same files, and the same lines where something is wrong."
    shell.mae_train("table.csv", None, "run", steps=3, batch_size=16, width=4, quiet=True)
    assert (sh(f"mae_train table.csv --out other {QUICK}")[0] == 0
            and weights("run") == weights("other"))
    assert sh("mae_sample run -n3 --out a.csv")[0] == 0
    assert sh("mae_sample run -n 3 --out b.csv --seed 0")[0] == 0
    shell.mae_sample("run", n=3, out="c.csv")
    assert Path("a.csv").read_text() == Path("b.csv").read_text() == Path("c.csv").read_text()
    with pytest.raises(SystemExit) as stopped: shell.mae_info("nowhere")
    message = "mae_info: path got nowhere, which holds no model.json"
    assert stopped.value.code == 1 and capsys.readouterr().err.startswith(message)


def test_nothing_heavy_is_imported_before_a_command_needs_it():
    heavy = {"torch", "numpy", "matplotlib", "mae_nb.train", "mae_nb.figures"}
    code = f"import sys, mae_nb.shell; print({heavy} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=environment()).stdout == "set()\n"


def test_folders_that_are_no_run_or_of_another(sh):
    assert (sh(f"mae_train table.csv --out table.csv/run {QUICK}")[0] == 1
            and sh(f"mae_train table.csv --out table.csv {QUICK}")[0] == 1)
    assert sh("mae_info run")[0] == sh("mae_encode run table.csv")[0] == sh("mae_sample run")[
        0] == 1
    assert sh(f"mae_train table.csv --out run {QUICK}")[0] == 0
    before = weights("run")
    assert ("the folder of this very run" in sh(f"mae_train table.csv --out run {QUICK} --seed 1")[
        2] and weights("run") == before)
    for state in Path("run").glob("state-*"): state.unlink()
    assert ("holds a model and no state of a run" in sh(f"mae_train table.csv --out run {QUICK}")[2]
            and weights("run") == before)
    Path("other.csv").write_text("left,height,kind\n1,2,0\n")
    np.save("other.npy", TABLE[:, :2])
    assert "takes those that the model was trained on: height, left, kind" in sh(
        "mae_encode run other.csv")[2]
    assert "data got shape (60, 2)" in sh("mae_encode run other.npy")[2]
    next(Path("run").glob("weights-*")).write_bytes(b"x")
    code, _, err = sh("mae_info run")
    assert code == 1 and "cut short or damaged" in err


def test_pictures_go_to_npy_only(sh):
    np.save("a.npy", RNG.random((20, 4, 4)))
    assert sh(f"mae_train a.npy --out run {QUICK}")[0] == 0
    assert (sh("mae_sample run")[2] == "mae_sample: --out got None, but takes a file that ends in "
                                       ".npy, for pictures.\n" and sh("mae_sample run --out a.csv")[
                                           0] == 1)


def test_a_failed_write_leaves_the_old_file(sh, monkeypatch):
    assert sh(f"mae_train table.csv --out run {QUICK}")[0] == 0
    assert sh("mae_sample run --out new.csv")[0] == 0
    old = Path("new.csv").read_text()
    def full(handle): raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    code, _, err = sh("mae_sample run --seed 1 --out new.csv")
    assert code == 1 and "No space left on device" in err and Path("new.csv").read_text() == old


def test_divergence_is_a_line(sh):
    code, _, err = sh("mae_train table.csv --target 1 --steps 50 --lr 1e30 --out run --quiet")
    assert code == 1 and "The loss was not finite" in err


def test_a_reader_that_stops_early_sees_no_traceback(sh, monkeypatch, capsys):
    "As `mae_sample run | head -1`: the pipe is closed before all is written."
    assert sh(f"mae_train table.csv --out run {QUICK}")[0] == 0
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as stopped: shell.mae_sample("run", n=10)
    assert stopped.value.code == 1 and capsys.readouterr().err == ""


def environment():
    return os.environ | {"PYTHONPATH": str(Path(shell.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def test_stopped_by_ctrl_c_and_resumed_to_the_bit(sh):
    options = "--target .5 --steps 300 --width 8 --latents 1 --tol 9 --out"
    soon = ("import mae_nb.training.resume, mae_nb.files; "
            "mae_nb.training.resume.Pace = lambda: mae_nb.files.Pace(first=0.)")
    Path("mae_train").write_text(f"{soon}; from mae_nb.shell import mae_train; mae_train()")
    process = subprocess.Popen([sys.executable, "mae_train",
                                *f"table.csv {options} run --quiet".split()],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment())
    while not list(Path("run").glob("state-*")) and process.poll() is None: time.sleep(.001)
    time.sleep(.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode == 130
            and "which is saved; the same command goes on from there." in err
            and "Traceback" not in err)
    step = runs._last_step(Path("run"))
    assert (0 <= step < 300 and not Path("run/model.json").exists()
            and f"stopped after step {step}," in err)
    assert f"training is at step {step}" in sh("mae_info run")[2]
    code, _, err = sh(f"mae_train table.csv {options} run")
    assert code == 0 and f"continuing from step {step}\n" in err
    code, _, err = sh(f"mae_train table.csv {options} run --seed 5")
    assert code == 1 and "going on" not in err and "where a run with another seed lies" in err
    assert sh(f"mae_train table.csv {options} whole --quiet")[0] == 0
    assert (weights("run") == weights("whole")
            and Path("run/curves.csv").read_bytes() == Path("whole/curves.csv").read_bytes())


def test_ctrl_c_before_the_first_step(sh, monkeypatch):
    def stopped(*args, **how): raise KeyboardInterrupt
    monkeypatch.setattr(runs, "fit", stopped)
    code, _, err = sh(f"mae_train table.csv --out run {QUICK}")
    assert (code == 130 and err == "mae_train: stopped before the first step; the same command "
                                   "starts again.\n")
