"""Runs llama.cpp's own converter, also on a tokenizer that it does not know.

    python -m scripts.peer_convert_gguf LLAMA_CPP_FOLDER CHECKPOINT --outtype f16 --outfile FILE

The converter recognises a byte-level tokenizer by how it splits a sample, and refuses those that are not in its list.
`compare_peers` hands over token ids, so the split is never used: an unknown one is written down as GPT-2's.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main() -> None:
    """Hands all arguments but the first to convert_hf_to_gguf.py."""
    folder = sys.argv.pop(1)
    sys.path[:0] = [folder, f"{folder}/gguf-py"]
    model: Any = importlib.import_module("conversion.base").TextModel
    known = model.get_vocab_base_pre

    def split_name(self: Any, tokenizer: Any) -> str:
        try:
            return str(known(self, tokenizer))
        except NotImplementedError:
            return "gpt-2"

    model.get_vocab_base_pre = split_name
    importlib.import_module("convert_hf_to_gguf").main()


if __name__ == "__main__":
    main()
