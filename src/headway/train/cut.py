"""Tensors that FSDP2 may have cut over the processes: put together, and cut alike."""

from typing import Any

from torch import Tensor


def whole_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor; every process must ask."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def held_like(whole: Tensor, tensor: Any) -> Tensor:
    """A whole tensor as another one is held: on its device, and this process's part where that one is cut."""
    if not hasattr(tensor, "placements"):
        return whole.to(tensor.device)
    from torch.distributed.tensor import distribute_tensor

    mesh = tensor.device_mesh
    return distribute_tensor(whole.to(mesh.device_type), mesh, tensor.placements, src_data_rank=None)
