"""Transfer of weights from another network, as the start of a training."""

from __future__ import annotations

import torch
from torch import nn

from finescale.layers.position import OffsetMLP
from finescale.networks.state import State


@torch.no_grad()
def transfer_weights(network: nn.Module, state: State) -> list[str]:
    """Take over every tensor whose key and shape agree, and leave the others as they are.

    The papers start x3 and x4 from x2 in this way. CIT starts from DAT-light, whose outputs it then has. The small
    network of a position bias is taken over whole or not at all.

    Args:
        network: The network to be trained, changed in place.
        state: Tensors of the other network.

    Returns:
        Keys of the network that kept their own values, in its order; all of them where nothing agrees.
    """
    own = network.state_dict()
    agreeing = {key for key, tensor in own.items() if key in state and state[key].shape == tensor.shape}
    for name, module in network.named_modules():
        if isinstance(module, OffsetMLP):
            keys = {f"{name}.{key}" for key in module.state_dict()}
            if not keys <= agreeing:
                agreeing -= keys
    for key in agreeing:
        own[key].copy_(state[key])
    return [key for key in own if key not in agreeing]
