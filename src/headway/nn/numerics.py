"""Precision of losses and norms: they are computed in float32 or wider, whatever the precision of the network."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def at_least_fp32(x: Tensor) -> Tensor:
    """Convert to float32; float64 stays float64."""
    return x if x.dtype == torch.float64 else x.float()


def l2_normalize(x: Tensor, dim: int = -1) -> Tensor:
    """Scale to length 1, x / ||x||, along ``dim``, in float32 at least; zero stays zero."""
    return F.normalize(at_least_fp32(x), dim=dim, eps=1e-12)


def cosine_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine between corresponding rows: ... D and ... D -> ..., in [-1, 1], in float32 at least."""
    return (l2_normalize(first) * l2_normalize(second)).sum(-1)


def no_autocast(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function so that autocast does not round its matrix products to bf16, which losses do not tolerate."""

    @functools.wraps(function)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        devices = {value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor)}
        with torch.autocast(next(iter(devices), "cpu"), enabled=False):
            return function(*args, **kwargs)

    return wrapper
