"""Checkpoints: float weights in the layouts of GPT-2, from a folder or a torch module.

`checkpoint` is what export reads; `config` and `generation` hold what config.json and
generation_config.json may say; `files` finds and reads the files of a folder; `layouts` brings a
state dict into Hugging Face's form; `bpe` makes tokenizer.json of vocab.json and merges.txt.
"""

from zkllm.checkpoints.checkpoint import Checkpoint
from zkllm.checkpoints.config import Config
from zkllm.checkpoints.files import MAX_TOKENIZER
from zkllm.checkpoints.layouts import FloatArray, shapes

__all__ = ["MAX_TOKENIZER", "Checkpoint", "Config", "FloatArray", "shapes"]
