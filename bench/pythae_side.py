"""pythae's trainer on the same nets and data.

Its VAE has a decoder of fixed noise (squared error), so its step does a little less.
"""
import tempfile
import time
import warnings

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import nn
from worker import serve

torch.set_num_threads(1)  # as fast as two for nets this small, and steadier
X = torch.distributions.Normal(0., 1.).icdf((torch.arange(10_000) + .5)/10_000)[:, None]


def mlp():
    return nn.Sequential(nn.Linear(1, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(),
                         nn.Linear(64, 2))


class Encoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        mean, log_variance = self.net(x).chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, z): return ModelOutput(reconstruction=self.net(z)[:, :1])


class Clock(TrainingCallback):
    def __init__(self): self.marks = []
    def on_epoch_end(self, training_config, **kwargs): self.marks.append(time.perf_counter())


def train(epochs: int = 5) -> tuple[float, float]:
    start, clock = time.perf_counter(), Clock()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        model = VAE(VAEConfig(input_dim=(1,), latent_dim=1, reconstruction_loss="mse"),
                    encoder=Encoder(), decoder=Decoder())
        config = BaseTrainerConfig(output_dir=folder, num_epochs=epochs,
                                   per_device_train_batch_size=128, learning_rate=3e-3,
                                   no_cuda=True, steps_saving=None)
        trainer = BaseTrainer(model, BaseDataset(X, torch.zeros(len(X))), training_config=config,
                              callbacks=[clock])
        trainer.train()
    epoch = (clock.marks[-1] - clock.marks[0])/(epochs - 1)
    return epoch/len(trainer.train_loader)*1e3, clock.marks[0] - start


if __name__ == "__main__": serve({"VAE, pythae": train})
