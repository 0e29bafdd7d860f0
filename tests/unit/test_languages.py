"""The language table."""

import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES

from tympan.errors import UnsupportedLanguage
from tympan.languages import LANGUAGES, language_code, language_name


def test_the_table_has_whispers_languages() -> None:
    """99 languages and Cantonese, exactly those of the tokenizer, each with a name of its own."""
    assert set(LANGUAGES) == set(_LANGUAGE_CODES)
    assert len(set(LANGUAGES.values())) == 100


@pytest.mark.parametrize(
    ("spelling", "code"),
    [
        *[
            ("en", "en"),
            ("pt-BR", "pt"),
            ("zh_Hans", "zh"),
            ("Haitian Creole", "ht"),
            ("Mandarin", "zh"),
            ("nb-NO", "no"),
        ],
        *[("fil", "tl"), ("fil-PH", "tl"), ("Filipino", "tl"), ("iw", "he"), ("in-ID", "id"), ("ji", "yi")],
    ],
)
def test_usual_spellings_are_understood(spelling: str, code: str) -> None:
    """Codes, tags with a region, names, and names for the same language."""
    assert language_code(spelling) == code


@pytest.mark.parametrize("spelling", ["", "klingon", "e", "en_" * 100, "\0"])
def test_anything_else_is_refused_with_the_remedy(spelling: str) -> None:
    """Unless its first part is a language."""
    if spelling.startswith("en"):
        assert language_code(spelling) == "en"
        return
    with pytest.raises(UnsupportedLanguage, match="Use a code"):
        language_code(spelling)


def test_names_are_lower_case_as_openai_spells_them() -> None:
    """And an unknown code is shown as it is."""
    assert [language_name(code) for code in ("en", "yue", "xx")] == ["english", "cantonese", "xx"]
