"""The presets in plain PyTorch, with a plain training loop: for comparison only."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from keras_ae import presets
from keras_ae.datasets.tiles import Tiles
from keras_ae.presets import Preset


class ResidualBlock(nn.Module):
    """The counterpart of a residual block of `keras_ae.models.autoencoder`."""

    def __init__(self, width: int):
        super().__init__()
        self.conv, self.mix = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x + self.mix(functional.gelu(self.conv(x)))


class LinearResidual(nn.Module):
    """The sum of a linear path and a residual path."""

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int):
        super().__init__()
        self.linear = nn.Conv2d(inputs, outputs, 1)
        layers = [nn.Conv2d(inputs, width, 1), *(ResidualBlock(width) for _ in range(blocks))]
        self.residual = nn.Sequential(*layers, nn.Conv2d(width, outputs, 1))

    def forward(self, x):
        return self.linear(x) + self.residual(x)


def build(preset: Preset) -> nn.Module:
    """The layers of a preset for RGB images [N, 3, H, W], channels last in memory."""
    latent_channels = presets.LATENT_CHANNELS
    if preset.architecture == "linear-residual":
        patch, (width,) = 3 * presets.STRIDE**2, preset.widths
        layers = [
            nn.PixelUnshuffle(presets.STRIDE),
            LinearResidual(patch, latent_channels, width, preset.blocks[0]),
            LinearResidual(latent_channels, patch, width, preset.blocks[1]),
            nn.PixelShuffle(presets.STRIDE),
        ]
    else:
        widths = [preset.widths[min(i, len(preset.widths) - 1)] for i in range(2)]
        layers, inputs = [], 3
        for width in (*widths, latent_channels):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = width
        for width in (latent_channels, *reversed(widths)):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(), nn.Upsample(None, 2)]
            inputs = width
        layers += [nn.Conv2d(inputs, 3, 3, padding=1), nn.Sigmoid()]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def training_loop(
    preset: str, tiles: Tiles, *, compiled: bool, bfloat16: bool = False
) -> Callable[[int], float]:
    """A function that trains for a number of epochs and returns the last loss, with Adam and MSE.

    Args:
        preset: name of the preset.
        tiles: the batches of their first epoch are kept on the device and used in every epoch.
        compiled: compile the forward pass with `torch.compile`.
        bfloat16: compute the forward pass in bfloat16 by autocast.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build(presets.get(preset)).to(device)
    batches = [
        torch.from_numpy(batch / np.float32(255))
        .permute(0, 3, 1, 2)
        .to(device, memory_format=torch.channels_last)
        for batch in tiles.epoch(0)
    ]
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def loss_of(images):
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            outputs = model(images)
        return functional.mse_loss(outputs.float(), images)

    forward = torch.compile(loss_of) if compiled else loss_of

    def train(epochs: int) -> float:
        loss = torch.zeros(())
        for _ in range(epochs):
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                loss = forward(batch)
                loss.backward()
                optimizer.step()
        return float(loss.detach())

    return train
