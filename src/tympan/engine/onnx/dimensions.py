"""Sizes of a model, and whether its parts are built the way the graphs are."""

from dataclasses import dataclass

from tympan.engine.onnx.weights import Weights

_GELU = 3
"""CTranslate2's number for the exact Gaussian error linear unit."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Sizes of an encoder or a decoder."""

    layers: int
    heads: int
    width: int

    @property
    def head_width(self) -> int:
        """Numbers per head."""
        return self.width // self.heads

    @classmethod
    def of(cls, weights: Weights, part: str) -> "Dimensions":
        """Read the sizes of ``part`` (``encoder`` or ``decoder``) off the weights."""
        layers = 0
        while f"{part}/layer_{layers}/ffn/linear_0/weight" in weights:
            layers += 1
        width = weights.raw(f"{part}/layer_norm/gamma").shape[0]
        return cls(layers, weights.number(f"{part}/num_heads"), width)


def supported(weights: Weights) -> bool:
    """Tell whether the graphs describe this model: pre-norm layers, exact GELU, learned positions, plain attention."""
    expected = {"pre_norm": 1, "activation": _GELU, "alibi": 0, "scale_embeddings": 0}
    return all(
        f"decoder/{name}" in weights and weights.number(f"decoder/{name}") == value for name, value in expected.items()
    )
