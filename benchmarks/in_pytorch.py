"""The presets in plain PyTorch, with the loop that one would write: for comparison only."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from keras_ae.presets import Preset


class Residual(nn.Module):
    """`keras_ae.models.layers.residual_block`."""

    def __init__(self, width: int):
        super().__init__()
        self.conv, self.mix = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x + self.mix(functional.gelu(self.conv(x)))


class Path(nn.Module):
    """A linear path beside a residual one."""

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int):
        super().__init__()
        self.linear = nn.Conv2d(inputs, outputs, 1)
        layers = [nn.Conv2d(inputs, width, 1), *(Residual(width) for _ in range(blocks))]
        self.residual = nn.Sequential(*layers, nn.Conv2d(width, outputs, 1))

    def forward(self, x):
        return self.linear(x) + self.residual(x)


def build(preset: Preset, stride: int, latent_channels: int) -> nn.Module:
    """The layers of a preset for RGB images [N, 3, H, W], channels last in memory."""
    if preset.architecture == "linear-residual":
        patch, (width,) = 3 * stride**2, preset.widths
        layers = [
            nn.PixelUnshuffle(stride),
            Path(patch, latent_channels, width, preset.blocks[0]),
            Path(latent_channels, patch, width, preset.blocks[1]),
            nn.PixelShuffle(stride),
        ]
    else:
        widths = [preset.widths[min(i, len(preset.widths) - 1)] for i in range(2)]
        layers, before = [], 3
        for width in (*widths, latent_channels):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            before = width
        for width in (latent_channels, *reversed(widths)):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.Upsample(None, 2)]
            before = width
        layers += [nn.Conv2d(before, 3, 3, padding=1), nn.Sigmoid()]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def loop(
    model: nn.Module, batches: list[np.ndarray], *, compiled: bool, bfloat16: bool = False
) -> Callable[[int], float]:
    """Adam and MSE over batches that lie on the device, float32 [n, H, W, 3] in 0..1.

    Returns:
        A function that trains for as many epochs as it is told and gives the last loss.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device)
    held = [
        torch.from_numpy(batch).permute(0, 3, 1, 2).to(device, memory_format=torch.channels_last)
        for batch in batches
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
            for batch in held:
                optimizer.zero_grad(set_to_none=True)
                loss = forward(batch)
                loss.backward()
                optimizer.step()
        return float(loss.detach())

    return train
