"""The languages Whisper knows: codes, English names, and how callers spell them."""

from types import MappingProxyType

from tympan.errors import UnsupportedLanguage

_TABLE = """
af Afrikaans|am Amharic|ar Arabic|as Assamese|az Azerbaijani|ba Bashkir|be Belarusian|bg Bulgarian|bn Bengali
bo Tibetan|br Breton|bs Bosnian|ca Catalan|cs Czech|cy Welsh|da Danish|de German|el Greek|en English|es Spanish
et Estonian|eu Basque|fa Persian|fi Finnish|fo Faroese|fr French|gl Galician|gu Gujarati|ha Hausa|haw Hawaiian
he Hebrew|hi Hindi|hr Croatian|ht Haitian Creole|hu Hungarian|hy Armenian|id Indonesian|is Icelandic|it Italian
ja Japanese|jw Javanese|ka Georgian|kk Kazakh|km Khmer|kn Kannada|ko Korean|la Latin|lb Luxembourgish|ln Lingala
lo Lao|lt Lithuanian|lv Latvian|mg Malagasy|mi Maori|mk Macedonian|ml Malayalam|mn Mongolian|mr Marathi|ms Malay
mt Maltese|my Myanmar|ne Nepali|nl Dutch|nn Nynorsk|no Norwegian|oc Occitan|pa Punjabi|pl Polish|ps Pashto
pt Portuguese|ro Romanian|ru Russian|sa Sanskrit|sd Sindhi|si Sinhala|sk Slovak|sl Slovenian|sn Shona|so Somali
sq Albanian|sr Serbian|su Sundanese|sv Swedish|sw Swahili|ta Tamil|te Telugu|tg Tajik|th Thai|tk Turkmen
tl Tagalog|tr Turkish|tt Tatar|uk Ukrainian|ur Urdu|uz Uzbek|vi Vietnamese|yi Yiddish|yo Yoruba|zh Chinese
yue Cantonese
"""

LANGUAGES = MappingProxyType(
    dict(entry.split(" ", 1) for line in _TABLE.split("\n") if line for entry in line.split("|"))
)
"""Whisper's language codes with their English names; only the large-v3 family knows ``yue``."""

_ALIASES = MappingProxyType(
    {
        "burmese": "my",
        "castilian": "es",
        "farsi": "fa",
        "fil": "tl",  # What Home Assistant sends for Tagalog.
        "filipino": "tl",
        "flemish": "nl",
        "haitian": "ht",
        "in": "id",  # The codes of ISO 639 before 1989, which Java's programs send to this day.
        "iw": "he",
        "ji": "yi",
        "jv": "jw",
        "letzeburgesch": "lb",
        "mandarin": "zh",
        "moldavian": "ro",
        "moldovan": "ro",
        "nb": "no",
        "panjabi": "pa",
        "pushto": "ps",
        "sinhalese": "si",
        "valencian": "ca",
    }
)

_CODES = MappingProxyType({name.lower(): code for code, name in LANGUAGES.items()} | dict(_ALIASES))


def language_code(spelling: str) -> str:
    """Return Whisper's code for ``en``, ``EN-us``, ``English`` and the like.

    Raises ``UnsupportedLanguage`` when Whisper has no such language.
    """
    word = spelling.strip().lower().replace("_", "-")
    for candidate in (word, word.split("-", 1)[0]):
        if candidate in LANGUAGES:
            return candidate
        if candidate in _CODES:
            return _CODES[candidate]
    raise UnsupportedLanguage(
        f"There is no language {spelling[:32]!r}.",
        param="language",
        remedy="Use a code such as 'en' or 'de', or leave the field out to have the language detected.",
    )


def language_name(code: str) -> str:
    """Return the English name in lower case, as OpenAI spells it; an unknown code comes back unchanged."""
    return LANGUAGES.get(code, code).lower()
