"""Text to token ids and back, for one checkpoint; and whether two checkpoints agree on them."""

from helix_cli.tokenizer.difference import TokenDifference, first_difference
from helix_cli.tokenizer.pairing import Pairing, Side, pair
from helix_cli.tokenizer.tokenizer import Tokenizer

__all__ = ["Pairing", "Side", "TokenDifference", "Tokenizer", "first_difference", "pair"]
