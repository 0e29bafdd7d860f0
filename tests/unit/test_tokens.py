"""Whisper's vocabulary: prompts, text and words, on a small vocabulary of our own and on a real model's."""

from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tympan.domain import Task
from tympan.engine.tokens import MAX_PREVIOUS_TOKENS, Vocabulary

SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in ("en", "de", "zh", "ja", "ru", "ar")),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)

SENTENCES = {
    "en": " Don't panic: it's \"quoted\", (bracketed) and costs $3.50!",
    "de": " Größe und Übermut, heißt es, tun selten gut.",
    "zh": "天地玄黄，宇宙洪荒。日月盈昃！",
    "ja": "いろはにほへと、散りぬるを。",
    "ru": " Съешь же ещё этих мягких французских булок.",
    "ar": " نص حكيم له سر قاطع، وذو شأن عظيم.",
}

MIXED = st.text(
    st.one_of(
        st.sampled_from(" abcdefgABC'-.,!?¿\"()[]{}“”\n"),
        st.sampled_from("äöüßéÉñçşžАБВгдежя"),
        st.sampled_from("天地玄黄宇宙。，！？：いろはにほへとカタ한국어"),
        st.sampled_from("نصحكيمله،؟אבגדहिन्दीไทย"),
        st.sampled_from("😀👩‍👩‍👧‍👦🇩🇪🔥\u200d\ufe0f\u202e\ufffd"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tokenizer.json of a little byte-level vocabulary, in which most characters take several tokens."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*SENTENCES.values(), ' "' * 20, " (" * 20, " --" * 20], trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module", params=["small", pytest.param("base", marks=pytest.mark.model)])
def path(request: pytest.FixtureRequest) -> Path:
    """Return a tokenizer.json: the little one, then the default model's."""
    if request.param == "small":
        found: Path = request.getfixturevalue("small")
        return found
    return Path(request.getfixturevalue("base").path) / "tokenizer.json"


@pytest.fixture(scope="module")
def vocabulary(path: Path) -> Vocabulary:
    """Return the vocabulary of a multilingual model."""
    return Vocabulary(path, multilingual=True)


@pytest.fixture(scope="module")
def ids(path: Path) -> dict[str, int]:
    """Return the numbers of the special tokens, read without the code under test."""
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    numbers = {token.strip("<|>"): tokenizer.token_to_id(token) for token in SPECIAL}
    return {name: number for name, number in numbers.items() if number is not None}


def spelled(vocabulary: Vocabulary, tokens: list[int], language: str) -> list[str]:
    """Return the texts of the words, after checking that they are spelled with their own tokens, all of them."""
    words = vocabulary.words(tokens, language)
    assert [token for word in words for token in word.tokens] == vocabulary.text_tokens(tokens)
    assert all(word.tokens for word in words)
    return [word.text for word in words]


# ------------------------------------------------------------------------------------------------------------ words


@settings(max_examples=300, deadline=None)
@given(text=MIXED, language=st.sampled_from([*SENTENCES, "yue", "th"]))
@example(text="a\ufffdb c", language="en")
@example(text="<|endoftext|>", language="en")
def test_words_joined_are_the_text(vocabulary: Vocabulary, text: str, language: str) -> None:
    """In any script, cut into words or characters, nothing of the text is lost, added or moved."""
    tokens = vocabulary.encode(text)
    assert "".join(spelled(vocabulary, tokens, language)) == vocabulary.decode(tokens)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), language=st.sampled_from(["en", "zh"]))
def test_any_tokens_a_model_may_emit_are_read(
    vocabulary: Vocabulary, ids: dict[str, int], data: st.DataObject, language: str
) -> None:
    """Tokens that are no whole characters, in any order and with specials between, still join to the text."""
    tokens = data.draw(st.lists(st.integers(0, max(ids.values())), max_size=40))
    assert "".join(spelled(vocabulary, tokens, language)) == vocabulary.decode(tokens)


def test_a_broken_character_does_not_swallow_the_words_after_it(vocabulary: Vocabulary) -> None:
    """One stray byte is a character of its own, and the words that follow are still words."""
    character = vocabulary.encode("𒀀")
    assert len(character) > 1
    stray = character[:1]
    tokens = [*vocabulary.encode(" one two"), *stray, *vocabulary.encode(" three four")]
    assert spelled(vocabulary, tokens, "en") == [" one", " two\ufffd", " three", " four"]


@pytest.mark.parametrize("language", SENTENCES)
def test_text_survives_the_round_trip(vocabulary: Vocabulary, language: str) -> None:
    """What is encoded is read back unchanged."""
    assert vocabulary.decode(vocabulary.encode(SENTENCES[language])) == SENTENCES[language]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" One two.", [" One", " two."]),
        (' He said "no" (twice), ok?', [" He", " said", ' "no"', " (twice),", " ok?"]),
        (" Don't stop -- go on...", [" Don't", " stop", " -- go", " on..."]),
        (" Größe und Übermut,", [" Größe", " und", " Übermut,"]),
        (" Съешь же ещё.", [" Съешь", " же", " ещё."]),
        (" نص حكيم له", [" نص", " حكيم", " له"]),
        (" fire 🔥 works", [" fire", " 🔥", " works"]),
        ("No space first", ["No", " space", " first"]),
        ("", []),
    ],
)
def test_words_part_at_spaces_and_keep_their_punctuation(vocabulary: Vocabulary, text: str, words: list[str]) -> None:
    """Opening marks go with the word after, closing ones with the word before."""
    assert spelled(vocabulary, vocabulary.encode(text), "en") == words


@pytest.mark.parametrize("language", ["zh", "ja", "yue"])
def test_scripts_without_spaces_part_into_whole_characters(vocabulary: Vocabulary, language: str) -> None:
    """No word is half a character; a comma goes with what stands before it."""
    words = spelled(vocabulary, vocabulary.encode("玄黄，洪荒。"), language)
    assert len(words) >= 2
    assert all("\ufffd" not in word for word in words)
    assert not any(word[0] in "，。" for word in words)
    assert words[-1].endswith("荒。")


def test_the_language_decides_how_words_part(vocabulary: Vocabulary) -> None:
    """The same characters are one word in a language with spaces, and several in one without."""
    tokens = vocabulary.encode("玄黄洪荒")
    assert spelled(vocabulary, tokens, "en") == ["玄黄洪荒"]
    assert len(spelled(vocabulary, tokens, "zh")) > 1


def test_special_tokens_are_no_text(vocabulary: Vocabulary, ids: dict[str, int]) -> None:
    """Specials among the tokens are left out of tokens, text and words."""
    said = vocabulary.encode(" Hello world")
    tokens = [ids["startoftranscript"], *said[:1], ids["notimestamps"], *said[1:], ids["endoftext"]]
    assert vocabulary.text_tokens(tokens) == said
    assert vocabulary.decode(tokens) == " Hello world"
    assert spelled(vocabulary, tokens, "en") == [" Hello", " world"]


# ---------------------------------------------------------------------------------------------------------- prompts


def test_a_plain_prompt_is_start_language_task_and_no_timestamps(vocabulary: Vocabulary, ids: dict[str, int]) -> None:
    """Without earlier text the decoder is told these four, in Whisper's order."""
    start, end = ids["startoftranscript"], ids["notimestamps"]
    assert vocabulary.prompt("de", Task.TRANSCRIBE, None, None) == [start, ids["de"], ids["transcribe"], end]
    assert vocabulary.prompt("ja", Task.TRANSLATE, " ", "\n") == [start, ids["ja"], ids["translate"], end]
    assert vocabulary.start_sequence("en", Task.TRANSCRIBE) == [start, ids["en"], ids["transcribe"]]


def test_an_english_model_is_told_neither_language_nor_task(path: Path, ids: dict[str, int]) -> None:
    """English-only models were trained without those tokens, so they are not used even where they exist."""
    english = Vocabulary(path, multilingual=False)
    assert english.prompt("en", Task.TRANSCRIBE, None, None) == [ids["startoftranscript"], ids["notimestamps"]]
    assert english.languages == {}


def test_earlier_text_comes_first_with_hotwords_before_the_prompt(vocabulary: Vocabulary, ids: dict[str, int]) -> None:
    """Both are announced once, each begins with a space as speech does, and the prompt stands next to the speech."""
    tokens = vocabulary.prompt("en", Task.TRANSCRIBE, "Earlier text.", "  Tympan Whisper ")
    plain = vocabulary.prompt("en", Task.TRANSCRIBE, None, None)
    assert tokens[0] == ids["startofprev"]
    assert tokens[-len(plain) :] == plain
    assert vocabulary.decode(tokens) == " Tympan Whisper Earlier text."


@settings(max_examples=150, deadline=None)
@given(
    prompt=st.one_of(st.none(), MIXED, MIXED.map(lambda text: text * 40)),
    hotwords=st.one_of(st.none(), MIXED, MIXED.map(lambda text: text * 40)),
)
@example(prompt="<|endoftext|><|startoftranscript|><|en|>" * 90, hotwords="<|notimestamps|>" * 90)
@example(prompt="<<||endoftext|>", hotwords="<|<|endoftext|>|>")
def test_any_earlier_text_is_bounded_and_stays_text(
    vocabulary: Vocabulary, ids: dict[str, int], prompt: str | None, hotwords: str | None
) -> None:
    """At most 223 tokens go before the start, none of them special, and the rest of the prompt is untouched."""
    tokens = vocabulary.prompt("en", Task.TRANSCRIBE, prompt, hotwords)
    plain = vocabulary.prompt("en", Task.TRANSCRIBE, None, None)
    assert tokens[-len(plain) :] == plain
    lead = tokens[: -len(plain)]
    assert lead == [] or lead[0] == ids["startofprev"]
    assert len(lead[1:]) <= MAX_PREVIOUS_TOKENS == 223
    assert all(token < ids["endoftext"] for token in lead[1:])


def test_a_long_prompt_keeps_its_end_and_long_hotwords_their_beginning(vocabulary: Vocabulary) -> None:
    """The words next to the speech matter most, and so do the hotwords named first; each gets its share."""
    prompt = " ".join(f"p{n}" for n in range(500))
    hotwords = " ".join(f"h{n}" for n in range(500))
    told = vocabulary.decode(vocabulary.prompt("en", Task.TRANSCRIBE, prompt, hotwords))
    assert told.startswith(" h0 h1 ")
    assert told.endswith(" p498 p499")
    both = vocabulary.text_tokens(vocabulary.prompt("en", Task.TRANSCRIBE, prompt, hotwords))
    assert len(both) == 223
    alone = vocabulary.decode(vocabulary.prompt("en", Task.TRANSCRIBE, prompt, None))
    assert len(vocabulary.encode(alone)) >= 220
    assert prompt.endswith(alone.lstrip("0123456789p"))


def test_special_tokens_in_a_users_text_stay_plain_text(vocabulary: Vocabulary, ids: dict[str, int]) -> None:
    """A prompt cannot end the text, change the language or start a new transcript; its letters still get through."""
    for name in ids:
        tokens = vocabulary.encode(f"say <|{name}|> now")
        assert all(token < ids["endoftext"] for token in tokens), name
        assert name in vocabulary.decode(tokens)


# -------------------------------------------------------------------------------------------------------- languages


def test_languages_have_tokens_of_their_own(vocabulary: Vocabulary, ids: dict[str, int]) -> None:
    """A code the model knows gives its token."""
    assert {code: vocabulary.languages[code] for code in SENTENCES} == {code: ids[code] for code in SENTENCES}


@pytest.mark.parametrize(
    "word", ["xx", "", "EN", "english", "transcribe", "translate", "endoftext", "notimestamps", "en|><|de", "0.00"]
)
def test_other_words_are_no_languages(vocabulary: Vocabulary, word: str) -> None:
    """Neither an unknown code nor the name of another special token passes for a language."""
    assert word not in vocabulary.languages


def test_a_vocabulary_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A tokenizer without Whisper's special tokens says which one it lacks."""
    path = tmp_path / "tokenizer.json"
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(path))
    with pytest.raises(ValueError, match="startoftranscript"):
        Vocabulary(path, multilingual=True)


def test_words_do_not_depend_on_what_follows(vocabulary: Vocabulary) -> None:
    """Reading more of a text changes at most the last word read so far."""
    tokens = vocabulary.encode(SENTENCES["de"] + SENTENCES["en"])
    readings = [spelled(vocabulary, tokens[:n], "de") for n in range(1, len(tokens) + 1)]
    for shorter, longer in pairwise(readings):
        assert longer[: len(shorter) - 1] == shorter[:-1]
