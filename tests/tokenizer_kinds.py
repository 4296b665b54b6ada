"""Tokenizers of every kind that GPT-2 checkpoints come with, small, and prompts for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
END = "<|endoftext|>"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def changed(tokenizer: Tokenizer, **parts: Any) -> Tokenizer:
    """`tokenizer` with other parts of its JSON."""
    return Tokenizer.from_str(json.dumps(json.loads(tokenizer.to_str()) | parts))


def byte_level(*, add_prefix_space: bool = False, **options: Any) -> Tokenizer:
    """GPT-2's own kind: bytes, a few merges, and <|endoftext|>."""
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "t"), ("Ġt", "he")]
    vocabulary = {token: i for i, token in enumerate(ALPHABET)}
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, **options))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return tokenizer


def with_bos(processor: Callable[[int], Any]) -> Tokenizer:
    tokenizer = byte_level()
    end = tokenizer.token_to_id(END)
    assert end is not None
    tokenizer.post_processor = processor(end)
    return tokenizer


def template(single: str) -> Tokenizer:
    return with_bos(
        lambda end: processors.TemplateProcessing(single=single, special_tokens=[(END, end)])
    )


def unigram(scheme: str = "always", *, split: bool = True, **options: Any) -> Tokenizer:
    pieces = [("<unk>", 0.0), ("▁hello", -1.0), ("▁the", -1.0), ("▁", -4.0), ("he", -3.0)]
    pieces += [(c, -5.0) for c in LETTERS + "H."]
    if options.get("byte_fallback"):
        pieces += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, **options))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    return tokenizer


def sentencepiece(*, normalise: bool = True) -> Tokenizer:
    """Llama's kind of BPE: ▁ for spaces, bytes for what it does not know."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for token in [f"<0x{byte:02X}>" for byte in range(256)] + ["▁", *LETTERS, "▁t", "▁th", "▁the"]:
        vocabulary.setdefault(token, len(vocabulary))
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e")]
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    if normalise:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def word_piece(*, cleanup: bool = True, **normaliser: Any) -> Tokenizer:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    for token in ["hello", "the", "un", ".", ",", "!", *LETTERS, *(f"##{c}" for c in LETTERS)]:
        vocabulary.setdefault(token, len(vocabulary))
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**normaliser)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=cleanup)
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def word_level(decoder: Any = None, *, unknown: bool = True) -> Tokenizer:
    words = [*(["<unk>"] if unknown else []), "hello", "the", "a", ".", "12"]
    model = models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if decoder is not None:
        tokenizer.decoder = decoder
    return tokenizer


def characters(alphabet: str = LETTERS + "H .\n", *, unknown: bool = True) -> Tokenizer:
    tokens = [*(["<unk>"] if unknown else []), *alphabet]
    tokenizer = Tokenizer(models.WordLevel({c: i for i, c in enumerate(tokens)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def normalised(*steps: Any) -> Tokenizer:
    tokenizer = characters()
    tokenizer.normalizer = normalizers.Sequence(list(steps))
    return tokenizer


def end_of_word() -> Tokenizer:
    """The first BPE: </w> at the end of words."""
    tokens = ["<unk>", *LETTERS, *(f"{c}</w>" for c in LETTERS), "th", "the</w>"]
    merges = [("t", "h"), ("th", "e</w>")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", end_of_word_suffix="</w>")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder()
    return tokenizer


def added_tokens() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.add_tokens(
        [
            AddedToken("[A]", lstrip=True),
            AddedToken("[B]", rstrip=True, normalized=False),
            AddedToken("cat", single_word=True),
        ]
    )
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True)])
    return tokenizer


def split_digits() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}|\s+(?!\S)"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def limited() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.enable_truncation(max_length=3)
    tokenizer.enable_padding(length=20, pad_id=0, pad_token="!")
    return tokenizer


def holes() -> Tokenizer:
    ids = {token: 3 * i for i, token in enumerate(["<unk>", *LETTERS, " "])}
    tokenizer = Tokenizer(models.WordLevel(ids, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def dropping() -> Tokenizer:
    """A BPE that knows no unknown token leaves out what it does not know."""
    tokens = [*LETTERS, "th"]
    model = models.BPE({token: i for i, token in enumerate(tokens)}, [("t", "h")])
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def ctc() -> Tokenizer:
    tokens = ["<pad>", "|", *LETTERS]
    tokenizer = Tokenizer(models.WordLevel({c: i for i, c in enumerate(tokens)}, "<pad>"))
    tokenizer.normalizer = normalizers.Replace(" ", "|")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.CTC()
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte level": byte_level,
    "byte level, space before": lambda: byte_level(add_prefix_space=True),
    "byte level, dropout of zero": lambda: byte_level(dropout=0.0),
    "byte level, BOS by template": lambda: template(f"{END} $A"),
    "byte level, EOS by template": lambda: template(f"$A {END}"),
    "byte level, BOS as RoBERTa": lambda: with_bos(
        lambda end: processors.RobertaProcessing((END, end), (END, end))
    ),
    "byte level, NFC": lambda: changed(byte_level(), normalizer={"type": "NFC"}),
    "byte level, lower case": lambda: changed(byte_level(), normalizer={"type": "Lowercase"}),
    "byte level, digits and regex": split_digits,
    "byte level, truncation and padding": limited,
    "added tokens": added_tokens,
    "unigram, always": unigram,
    "unigram, first": lambda: unigram("first"),
    "unigram, never": lambda: unigram("never"),
    "unigram, not split": lambda: unigram(split=False),
    "unigram, byte fallback": lambda: unigram(byte_fallback=True),
    "SentencePiece": sentencepiece,
    "SentencePiece, not normalised": lambda: sentencepiece(normalise=False),
    "WordPiece": word_piece,
    "WordPiece, as it is": lambda: word_piece(cleanup=False, lowercase=False, clean_text=False),
    "words": word_level,
    "words, metaspace": lambda: word_level(decoders.Metaspace()),
    "words, none unknown": lambda: word_level(unknown=False),
    "characters": characters,
    "characters, none unknown": lambda: characters(unknown=False),
    "lower case, NFKC, stripped": lambda: normalised(
        normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()
    ),
    "accents stripped": lambda: normalised(normalizers.NFD(), normalizers.StripAccents()),
    "spaces joined": lambda: normalised(normalizers.Replace(Regex(" {2,}"), " ")),
    "end of word": end_of_word,
    "holes": holes,
    "dropping": dropping,
    "CTC": ctc,
}

PROMPTS = [
    "",
    " ",
    "hello",
    " hello",
    "hello ",
    "  hello   the  ",
    "Hello the",
    "the hello the",
    "hello\n",
    "\n",
    "\t",
    "a\r\nb",
    "hello.",
    "the cat [A] [B] cats <mask> the",
    f"hello {END} the",
    f"{END}",
    "<s> hello </s>",
    "[CLS] hello [SEP]",
    "<0x41>",
    "<unk>",
    "##a the",
    "▁the",
    "12345 6 789",
    "don't, un-do!",
    "héllo",
    "he\u0301llo",
    "Å Å ﬁ ①",
    "İ ß ẞ",
    "😀 👨‍👩‍👧",
    "שלום עולם",
    "مرحبا",
    "日本語のテキスト",
    "a\u200bb\u2060c\ufeffd",
    "\ufeffhello",
    "a\0b",
    "\x01\x7f\x85",
    "\ufffd",
    "a\u0300\u0301\u0302",
    "\U0010ffff\ue000",
    "\u2028\u2029\u3000\xa0",
    "||aa||",
    "a" * 500,
    "the " * 200,
    " " * 300,
    "x" * 101 + " hello",
]
