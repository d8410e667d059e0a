"""Precision where it counts: losses and norms are computed in float32 or wider, whatever the network runs in."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def wide(x: Tensor) -> Tensor:
    """The tensor in float32 at least; float64 stays float64."""
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Tensor, dim: int = -1) -> Tensor:
    """Scale to length 1, x / ||x||, along ``dim``, in float32 at least; zero stays zero."""
    return F.normalize(wide(x), dim=dim, eps=1e-12)


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """The cosine between each row and its counterpart: ... D and ... D -> ..., in [-1, 1], in float32 at least."""
    return (unit(first) * unit(second)).sum(-1)


def full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A function whose products are not rounded to bf16 by autocast, as the arithmetic of a loss must not be."""

    @functools.wraps(function)
    def exact(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        kinds = {value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor)}
        with torch.autocast(next(iter(kinds), "cpu"), enabled=False):
            return function(*args, **kwargs)

    return exact
