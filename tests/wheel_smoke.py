"""What a user who has only `pip install`ed the package can do.

Run by `make test` with the installed wheel, from an empty directory.
"""
import subprocess
from importlib.util import find_spec

import numpy as np
import torch
from mae_nb.all import (
    FlowNet, MutualAutoencoder, NormalNet, categorical_mae, exact_information, fit,
    mutual_information, standard_normal, sweep,
)

assert find_spec("nbdev") is None, "the library must not need nbdev"

mae = categorical_mae(target=1.0)
history = fit(mae, steps=1000, seed=0, progress=False)
assert abs(exact_information(mae) - 1) < .05
assert mae.information(n=2000, seed=0).holds(exact_information(mae), 4)
history.plot()
assert mae.certificate(tol=.1).held and 'held; I = ' in repr(mae)

try: FlowNet(1, 1)
except ImportError as e:
    assert "FlowNet needs zuko, which is an extra: pip install 'mae_nb[flows]'" in str(e)
else: raise AssertionError('zuko came with the wheel')

try: mae.save("saved")
except ImportError as e:
    assert "saving needs safetensors.torch, which is an extra: pip install 'mae_nb[save]'" in str(e)
else: raise AssertionError('safetensors came with the wheel')

own = MutualAutoencoder(NormalNet(3, 2), NormalNet(2, 3), standard_normal(2),
                        infomax=NormalNet(3, 2), target=.5)
fit(own, np.random.default_rng(0).normal(size=(200, 3)), steps=5, progress=False)
assert own.sample(4).shape == (4, 3) and own.decode(torch.zeros(1, 2)).mean.shape == (1, 3)
assert mutual_information(own.decoder, own.prior, proposal=own.infomax, k=4, n=50).upper < 5
assert [run.target for run in sweep(categorical_mae, [0., 1.], steps=3, progress=False)] == [0., 1.]

subprocess.run(["mae_figures", "5", "--out", "out", "--steps", "3"], check=True,
               stdout=subprocess.DEVNULL)
table = np.load("out/fig5.npz")
assert table["prob"].shape == (len(table["target"]), len(table["z"]), 10)
