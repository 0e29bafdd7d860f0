"""Whisper's vocabulary: prompts in, text and words out."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import tokenizers

from tympan.domain import Task
from tympan.engine.byte_level import byte_of
from tympan.languages import LANGUAGES

MAX_PREVIOUS_TOKENS = 223
"""Room for text before the window: half of the decoder's 448 positions, less the token that announces it."""

_SPACELESS = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
_OPENING = frozenset("\"'“¿([{-")
_CLOSING = frozenset("\"'.。,，!！?？:：”)]}、")
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True)
class WordTokens:
    """One word and the tokens it is spelled with."""

    text: str
    tokens: tuple[int, ...]


class Spelling(Protocol):
    """How text is spelled in numbered tokens."""

    def token_to_id(self, token: str) -> int | None:
        """Return the number of a special token, or ``None``."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the tokens of plain text."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of plain tokens; bytes that are no character become U+FFFD."""
        ...

    def octets(self, token: int) -> bytes:
        """Return the bytes of a plain token."""
        ...


class FileSpelling:
    """The spelling in a ``tokenizer.json``."""

    def __init__(self, path: Path) -> None:
        """Read the file at ``path``."""
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))

    def token_to_id(self, token: str) -> int | None:
        """Return the number of a special token, or ``None``."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def encode(self, text: str) -> list[int]:
        """Return the tokens of plain text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of plain tokens; bytes that are no character become U+FFFD."""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=False)
        return text

    def octets(self, token: int) -> bytes:
        """Return the bytes of a plain token."""
        return bytes(byte_of()[letter] for letter in self._tokenizer.id_to_token(token) or "")


class Vocabulary:
    """The tokenizer of one model: special tokens by meaning, prompts, text, and words."""

    def __init__(self, spelling: Spelling | Path, *, multilingual: bool) -> None:
        """Use ``spelling``, or the ``tokenizer.json`` at that path."""
        self._tokenizer = FileSpelling(spelling) if isinstance(spelling, Path) else spelling
        self.multilingual = multilingual
        self.start = self._special("<|startoftranscript|>")
        self.end = self._special("<|endoftext|>")
        self.no_speech = self._special("<|nospeech|>", "<|nocaptions|>")
        self.languages = self._languages() if multilingual else {}
        """The token of every language that the model can be told, by its code."""
        self._previous = self._special("<|startofprev|>")
        self._no_timestamps = self._special("<|notimestamps|>")
        self._tasks = {task: self._special(f"<|{task}|>") for task in Task} if multilingual else {}

    def _special(self, *spellings: str) -> int:
        found = [self._tokenizer.token_to_id(token) for token in spellings]
        for number in found:
            if number is not None:
                return int(number)
        raise ValueError(f"tokenizer has no {spellings[0]}")

    def _languages(self) -> dict[str, int]:
        """Return the token of every language that the model knows, by its code."""
        found = {code: self._tokenizer.token_to_id(f"<|{code}|>") for code in LANGUAGES}
        return {code: token for code, token in found.items() if token is not None}

    def start_sequence(self, language: str, task: Task) -> list[int]:
        """Return the tokens that tell the decoder language and task, without the timestamp choice."""
        token = self.languages.get(language)
        return [self.start] if token is None else [self.start, token, self._tasks[task]]

    def prompt(self, language: str, task: Task, prompt: str | None, hotwords: str | None) -> list[int]:
        """Return the decoder's whole prompt: earlier text, then language, task and "no timestamps"."""
        previous = self.previous_text(prompt, hotwords)
        lead = [self._previous, *previous] if previous else []
        return [*lead, *self.start_sequence(language, task), self._no_timestamps]

    def previous_text(self, prompt: str | None, hotwords: str | None) -> list[int]:
        """Return the tokens of what comes before the window: hotwords, then the end of the prompt."""
        hot = self.encode(" " + hotwords.strip())[: MAX_PREVIOUS_TOKENS // 2] if hotwords and hotwords.strip() else []
        room = MAX_PREVIOUS_TOKENS - len(hot)
        told = self.encode(" " + prompt.strip())[-room:] if prompt and prompt.strip() else []
        return hot + told

    def encode(self, text: str) -> list[int]:
        """Return the tokens of plain text; special tokens written out in it stay plain text."""
        return self._tokenizer.encode(text.replace("<|", "< |"))

    @cached_property
    def numerals(self) -> frozenset[int]:
        """The tokens of text in which a digit stands."""
        digits = frozenset(string.digits)
        return frozenset(token for token in range(self.end) if not digits.isdisjoint(self.decode([token])))

    def text_tokens(self, tokens: Sequence[int]) -> list[int]:
        """Return ``tokens`` without special and timestamp tokens."""
        return [token for token in tokens if token < self.end]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``; special tokens are left out."""
        return self._tokenizer.decode(self.text_tokens(tokens))

    def octets(self, token: int) -> bytes:
        """Return the bytes of a token of text, which may end inside a character."""
        return self._tokenizer.octets(token)

    def words(self, tokens: Sequence[int], language: str) -> list[WordTokens]:
        """Split ``tokens`` into words with their punctuation; in scripts without spaces, into characters."""
        parts = self._characters(self.text_tokens(tokens))
        if language not in _SPACELESS:
            parts = _join_to_words(parts)
        return _attach_punctuation(parts)

    def _characters(self, tokens: Sequence[int]) -> list[WordTokens]:
        """Group tokens into the shortest runs that decode to whole characters."""
        parts: list[WordTokens] = []
        begin = 0
        for end in range(1, len(tokens) + 1):
            text = self.decode(tokens[begin:end])
            # Bytes that never become a character end their run too: cutting there changes no text.
            if _REPLACEMENT not in text or text + self.decode(tokens[end:]) == self.decode(tokens[begin:]):
                parts.append(WordTokens(text, tuple(tokens[begin:end])))
                begin = end
        return parts


def _join_to_words(parts: Sequence[WordTokens]) -> list[WordTokens]:
    words: list[WordTokens] = []
    for part in parts:
        starts = part.text.startswith(" ") or part.text.strip() in string.punctuation
        if starts or not words:
            words.append(part)
        else:
            last = words[-1]
            words[-1] = WordTokens(last.text + part.text, last.tokens + part.tokens)
    return words


def _is_only(text: str, marks: frozenset[str]) -> bool:
    bare = text.strip()
    return bool(bare) and all(mark in marks for mark in bare)


def _attach_punctuation(words: Sequence[WordTokens]) -> list[WordTokens]:
    """Give opening marks to the word that follows and closing marks to the word before."""
    joined: list[WordTokens] = []
    held: WordTokens | None = None
    for word in words:
        current = word
        if held is not None:
            current = WordTokens(held.text + word.text, held.tokens + word.tokens)
            held = None
        elif word.text.startswith(" ") and _is_only(word.text, _OPENING):
            held = word
            continue
        elif joined and not word.text.startswith(" ") and _is_only(word.text, _CLOSING):
            last = joined.pop()
            current = WordTokens(last.text + word.text, last.tokens + word.tokens)
        joined.append(current)
    if held is not None:
        joined.append(held)
    return joined
