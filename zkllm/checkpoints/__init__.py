"""Checkpoints: float weights of a known architecture, from a folder or a torch module.

`checkpoint` is what export reads; `generation` holds what generation_config.json may say; `files`
finds and reads the files of a folder; `layouts` brings a state dict into the form of its
architecture; `bpe` makes tokenizer.json of vocab.json and merges.txt.
"""

from zkllm.checkpoints.checkpoint import Checkpoint
from zkllm.checkpoints.files import MAX_TOKENIZER

__all__ = ["MAX_TOKENIZER", "Checkpoint"]
