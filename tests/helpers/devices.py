"""Tensors on another device."""


def to(device, batch):
    """A batch there."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
