"""How far a text can be trusted: whether its words are right, and whether anybody said them. Pure."""

from tympan.confidence.score import Evidence, confidence, hallucination_score

__all__ = ["Evidence", "confidence", "hallucination_score"]
