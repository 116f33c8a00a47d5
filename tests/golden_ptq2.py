"""Golden cases of PTQ4SR and 2DQuant: quantizers, ranges, and whole quantized networks."""

from __future__ import annotations

import json
import re
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.networks import FAMILIES, from_options
from finescale.networks.placement import Placement
from finescale.quantize import QuantSettings, insert_quantizers, recipe
from finescale.quantize.modules import quantizers, switch
from helpers import GOLDEN, seeded_state

CASES = GOLDEN / "ptq2"

Bounds = dict[str, tuple[Tensor, Tensor]]


class Case:
    """One file: its arrays as tensors, and its description."""

    def __init__(self, name: str) -> None:
        with np.load(CASES / f"{name}.npz", allow_pickle=False) as data:
            self.meta: dict[str, Any] = json.loads(str(data["meta"]))
            self.arrays = {key: torch.from_numpy(np.array(data[key])) for key in data.files if key != "meta"}

    def __getitem__(self, key: str) -> Tensor:
        return self.arrays[key]

    def bounds(self, key: str) -> Bounds:
        """A flat array of bounds, by our paths of the quantizers: (lower, upper)."""
        entries = [one if isinstance(one, dict) else {"name": one, "shape": [1]} for one in self.meta["bounds"]]
        parts = self[key].split([prod(one["shape"]) for one in entries])
        ends = {one["name"]: part.reshape(one["shape"] or ()) for one, part in zip(entries, parts, strict=True)}
        return {
            our_path(name.rpartition(".")[0]): (low, ends[name.replace("lower", "upper")])
            for name, low in ends.items()
            if ".lower" in name
        }


def names(prefix: str, method: str) -> list[str]:
    """Names of all cases of a method whose names, less the method, begin with a word."""
    start = "ptq4sr_" if method == "ptq4sr" else ""
    return sorted(path.stem for path in CASES.glob(f"{start}{prefix}_*.npz"))


def our_path(published: str) -> str:
    """Our path of a published quantizer; the thirds of weights end in their number."""
    path = published.replace("wgt_quantizer", "weight_quantizer").replace("act_quantizer", "input_quantizer")
    path = re.sub(
        r"qkv\.([qkv])\.weight_quantizer", lambda found: f"qkv.weight_quantizer.{'qkv'.index(found[1])}", path
    )
    names_of = {"q": "query", "k": "key", "v": "value", "a": "probabilities"}
    path = re.sub(r"qkv\.([qkv])\.input_quantizer", lambda found: f"qkv.{names_of[found[1]]}_quantizer", path)
    return re.sub(r"mymodule_([qkva])", lambda found: f"attention.{names_of[found[1]]}", path)


def found_bounds(network: nn.Module) -> Bounds:
    """Bounds of a network as `Case.bounds` has them."""
    found: Bounds = {}
    for path, one in quantizers(network).items():
        if path.endswith("qkv.weight_quantizer"):
            found |= {f"{path}.{third}": (one.low[third], one.high[third]) for third in range(3)}
        else:
            found[path] = one.low, one.high
    return {path: (low.detach().clone(), high.detach().clone()) for path, (low, high) in found.items()}


def gradients(network: nn.Module) -> Bounds:
    """Gradients of bounds, in the form of `found_bounds`; those of untrained ones are left out."""
    found: Bounds = {}
    for path, one in quantizers(network).items():
        if one.low.grad is None or one.high.grad is None:
            continue
        if path.endswith("qkv.weight_quantizer"):
            found |= {f"{path}.{third}": (one.low.grad[third], one.high.grad[third]) for third in range(3)}
        else:
            found[path] = one.low.grad, one.high.grad
    return {path: (low.clone(), high.clone()) for path, (low, high) in found.items()}


def set_bounds(network: nn.Module, bounds: Bounds) -> None:
    """Give a network the bounds of a case, and switch its quantizers on."""
    for path, one in quantizers(network).items():
        if path in bounds:
            low, high = bounds[path]
        else:
            thirds = [bounds[f"{path}.{third}"] for third in range(3)]
            low, high = (torch.cat([ends[side] for ends in thirds]) for side in range(2))
        one.set_bounds(low.reshape(one.low.shape), high.reshape(one.low.shape))
    switch(network, on=True)


def quantized_network(case: Case) -> tuple[Any, Placement, QuantSettings]:
    """The network of a case with quantizers, none of them on."""
    method, bits = case.meta["method"], case.meta["bits"]
    if method == "2dquant":
        network: Any = from_options({"type": "SwinIR", **case.meta["config"]}).eval()
        placement = FAMILIES["swinir"].quantization.placement(network.settings)
    else:
        network, placement = EDSR(**case.meta["config"]).eval(), Placement()
    network.load_state_dict(seeded_state(case.meta["shapes"]))
    settings = QuantSettings(**{**recipe(method, bits=bits), "bits": bits, "epochs": 1})
    insert_quantizers(network, placement, settings)
    return network, placement, settings


class EDSR(nn.Module):
    """The convolutional network of PTQ4SR, for its golden cases alone."""

    def __init__(
        self, num_in_ch: int, num_out_ch: int, num_feat: int, num_block: int, upscale: int, res_scale: float,
        img_range: float, rgb_mean: tuple[float, float, float],
    ) -> None:  # fmt: skip
        super().__init__()
        assert upscale == 2
        self.image_range, self.mean = img_range, torch.tensor(rgb_mean)[:, None, None]
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(_Block(num_feat, res_scale) for _ in range(num_block)))
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsample = nn.Sequential(nn.Conv2d(num_feat, 4 * num_feat, 3, padding=1), nn.PixelShuffle(2))
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_first((x - self.mean) * self.image_range)
        x = self.conv_after_body(self.body(x)) + x
        answer: Tensor = self.conv_last(self.upsample(x)) / self.image_range + self.mean
        return answer


class _Block(nn.Module):
    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.conv2(F.relu(self.conv1(x)))
        return x + branch * self.scale
