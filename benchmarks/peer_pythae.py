"""pythae's VAE and IWAE with Burda's network: its model and its trainer's optimiser step, on resident batches."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn

from benchmarks import hand
from benchmarks.workload import Workload


class Encoder(BaseEncoder):
    """Location and log variance."""

    def __init__(self) -> None:
        super().__init__()
        self.network = hand.Encoder()

    def forward(self, x: Tensor) -> ModelOutput:
        loc, log_variance = self.network(x)
        return ModelOutput(embedding=loc, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """Probabilities, which is what its "bce" takes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(hand.Decoder(), nn.Sigmoid())

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.network(z))


def step(batch: int, K: int) -> Workload:
    """Its model's forward, then its trainer's zero_grad, backward and Adam; the KL of its VAE is in closed form."""
    torch.manual_seed(0)
    data = hand.batches(batch)
    sizes: dict[str, Any] = {"input_dim": (hand.X,), "latent_dim": hand.Z, "reconstruction_loss": "bce"}
    networks = Encoder(), Decoder()
    model = VAE(VAEConfig(**sizes), *networks) if K == 1 else IWAE(IWAEConfig(number_samples=K, **sizes), *networks)
    images = torch.cat(data)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, learning_rate=1e-3, per_device_train_batch_size=batch, no_cuda=True
        )
        trainer = BaseTrainer(model, BaseDataset(images, torch.zeros(len(images))), training_config=config)
        trainer.prepare_training()
    model.train()

    def forward(x: Tensor) -> ModelOutput:
        return model({"data": x}, epoch=1, dataset_size=len(images), uses_ddp=False)

    return Workload(
        lambda i: trainer._optimizers_step(forward(data[i % len(data)])),
        loss=lambda: forward(data[0]).loss.item(),
    )
