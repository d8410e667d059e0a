"""What attention asks of its shapes, in errors that name the given one and what would have worked."""

from torch import Tensor

from headway.errors import HeadwayError


def head_width_of(width: int, attention_heads: int, head_width: int | None = None) -> int:
    """d, the width of an attention head: as given, else D / h.

    Raises:
        HeadwayError: Where a count or width is below 1, or ``attention_heads`` doesn't divide ``width``.
    """
    if head_width is not None:
        if attention_heads < 1 or head_width < 1:
            raise HeadwayError(f"{attention_heads} attention heads of width {head_width}: both must be 1 or more")
        return head_width
    if attention_heads < 1 or width % attention_heads:
        raise HeadwayError(
            f"embed_dim {width} is not divisible by {attention_heads} attention heads; the nearest counts that "
            f"divide it are {', '.join(map(str, nearest_divisors(width, attention_heads)))}"
        )
    return width // attention_heads


def nearest_divisors(width: int, count: int) -> list[int]:
    """The three divisors of ``width`` nearest to ``count``, ascending; the larger where two are equally near."""
    divisors = [n for n in range(1, width + 1) if width % n == 0]
    return sorted(sorted(divisors, key=lambda n: (abs(n - count), -n))[:3])


def check_inputs(widths: tuple[int, int, int] | None, x: Tensor, key: Tensor | None, value: Tensor | None) -> None:
    """Raise ValueError unless the inputs fit the kind of attention, its widths, and one another.

    Args:
        widths: Of queries, keys and values in cross-attention; None in self-attention.
        x: B T D.
        key: B S key_width, or None.
        value: B S value_width, or None.
    """
    if x.dim() != 3:
        raise ValueError(f"the tokens that look are B T D, got {_sizes(x)}")
    if widths is None:
        if key is not None or value is not None:
            raise ValueError("keys or values were given to attention made for self-attention; make it with key_width")
        return
    if key is None:
        raise ValueError("no keys were given to attention made for cross-attention; it has a key_width")
    value = key if value is None else value
    for name, tokens, width in zip(("x", "key", "value"), (x, key, value), widths, strict=True):
        if tokens.dim() != 3 or tokens.shape[-1] != width or tokens.shape[0] != x.shape[0]:
            letter = "T" if name == "x" else "S"
            raise ValueError(f"{name} must be B {letter} D = {len(x)} {letter} {width}, got {_sizes(tokens)}")
    if value.shape[1] != key.shape[1]:
        raise ValueError(f"each key needs a value: got {key.shape[1]} keys and {value.shape[1]} values")


def _sizes(tensor: Tensor) -> str:
    return " ".join(map(str, tensor.shape))
