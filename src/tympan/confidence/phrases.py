"""What Whisper models are known to write where nobody speaks: credits of subtitles, farewells of videos, small words.

They learnt these from subtitles that stood over music and silence. The lists were put together from what users of the
models have reported over the years. A phrase counts when it is the whole text, said once or over and over, whatever its
case and punctuation. Some of the phrases are also said by people, so a match is a sign among others and never removes
text by itself.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from types import MappingProxyType

_ARTEFACTS: Mapping[str, tuple[str, ...]] = {
    "ar": (
        "اشتركوا في القناة",
        "لا تنسوا الاشتراك في القناة",
        "شكرا على المشاهدة",
        "شكرا للمشاهدة",
        "ترجمة نانسي قنقر",
    ),
    "bg": ("абонирайте се", "благодаря за гледането"),
    "cs": ("titulky vytvořil JohnyX", "titulky vytvořil Jirka Kováč", "děkuji za pozornost", "www.hradeckesluzby.cz"),
    "da": ("tak for at I så med", "tak fordi du så med", "tekster af Nicolai Winther", "danske tekster"),
    "de": (
        "vielen Dank fürs Zuschauen",
        "danke fürs Zuschauen",
        "vielen Dank für die Aufmerksamkeit",
        "bis zum nächsten Mal",
        "abonniert meinen Kanal",
        "Untertitel im Auftrag des ZDF für funk, 2017",
        "Untertitelung im Auftrag des ZDF",
        "Untertitelung des ZDF, 2020",
        "Untertitel von Stephanie Geiges",
        "Untertitelung aufgrund der Audioqualität nicht möglich",
        "Copyright WDR 2021",
    ),
    "el": ("υπότιτλοι AUTHORWAVE", "ευχαριστώ που παρακολουθήσατε", "ευχαριστούμε που παρακολουθήσατε"),
    "en": (
        "thanks for watching",
        "thank you for watching",
        "thank you so much for watching",
        "thank you very much for watching",
        "thanks for watching and I'll see you in the next video",
        "thanks for watching, see you next time",
        "thanks for listening",
        "please subscribe",
        "please subscribe to my channel",
        "please like and subscribe",
        "don't forget to like and subscribe",
        "don't forget to subscribe",
        "like and subscribe",
        "subscribe to my channel",
        "I'll see you in the next video",
        "see you in the next video",
        "see you next time",
        "see you in the next one",
        "we'll be right back",
        "transcribed by https://otter.ai",
        "transcription by CastingWords",
        "transcript Emily Beynon",
        "MBC News",
        "music playing",
        "silence",
        "music",
        "applause",
    ),
    "es": (
        "gracias por ver el video",
        "gracias por ver el vídeo",
        "gracias por ver",
        "suscríbete",
        "suscríbete al canal",
        "no olvides suscribirte",
        "hasta la próxima",
        "subtítulos en español de Amara.org",
    ),
    "fi": ("kiitos katsomisesta", "kiitos kun katsoit"),
    "fr": (
        "merci d'avoir regardé cette vidéo",
        "merci d'avoir regardé la vidéo",
        "merci d'avoir regardé",
        "abonnez-vous",
        "n'oubliez pas de vous abonner",
        "à bientôt pour une nouvelle vidéo",
        "sous-titrage ST' 501",
        "sous-titrage Société Radio-Canada",
        "sous-titrage MFP",
    ),
    "he": ("תודה שצפיתם", "תודה על הצפייה"),
    "hu": ("köszönöm, hogy megnézted", "köszönöm a figyelmet", "feliratkozás"),
    "id": ("terima kasih telah menonton", "sampai jumpa di video selanjutnya", "jangan lupa subscribe"),
    "it": (
        "grazie per la visione",
        "grazie per aver guardato il video",
        "iscriviti al canale",
        "iscrivetevi al canale",
        "sottotitoli e revisione a cura di QTSS",
        "sottotitoli a cura di QTSS",
        "sottotitoli di Sarah Macdonald",
    ),
    "ja": (
        "ご視聴ありがとうございました",
        "ご視聴いただきありがとうございます",
        "ご覧いただきありがとうございます",
        "最後までご視聴いただきありがとうございます",
        "チャンネル登録お願いします",
        "チャンネル登録をお願いいたします",
        "チャンネル登録よろしくお願いします",
        "次の動画でお会いしましょう",
        "おやすみなさい",
    ),
    "ko": (
        "시청해주셔서 감사합니다",
        "시청해 주셔서 고맙습니다",
        "구독과 좋아요 부탁드립니다",
        "한글자막 by 한효정",
        "다음 영상에서 만나요",
        "이 영상은 유료광고를 포함하고 있습니다",
    ),
    "nl": (
        "bedankt voor het kijken",
        "ondertiteling TV Gelderland 2021",
        "tot de volgende keer",
        "vergeet niet te abonneren",
    ),
    "no": ("undertekster av Ai-Media", "teksting av Nicolai Winther", "takk for at du så på"),
    "pl": ("dziękuję za oglądanie", "dzięki za oglądanie", "dziękuję za uwagę", "do zobaczenia w następnym odcinku"),
    "pt": (
        "obrigado por assistir",
        "obrigada por assistir",
        "inscreva-se no canal",
        "se inscreva no canal",
        "até o próximo vídeo",
        "legendas pela comunidade Amara.org",
    ),
    "ro": ("vă mulțumesc pentru vizionare", "mulțumesc pentru vizionare", "nu uitați să vă abonați"),
    "ru": (
        "субтитры сделал DimaTorzok",
        "субтитры создавал DimaTorzok",
        "субтитры подогнал «Симон»",
        "субтитры и перевод",
        "редактор субтитров А.Семкин Корректор А.Егорова",
        "редактор субтитров А.Синецкая Корректор А.Егорова",
        "продолжение следует",
        "спасибо за просмотр",
        "подписывайтесь на канал",
        "подпишись на канал",
        "до новых встреч",
    ),
    "sk": ("titulky vytvoril JohnyX", "ďakujem za pozornosť"),
    "sv": (
        "tack för att ni tittade",
        "svensktextning.nu",
        "textning Stina Hedin www.btistudios.com",
        "undertexter från",
    ),
    "th": ("ขอบคุณที่รับชม", "อย่าลืมกดติดตาม"),
    "tr": (
        "izlediğiniz için teşekkür ederim",
        "izlediğiniz için teşekkürler",
        "abone olmayı unutmayın",
        "altyazı M.K.",
    ),
    "uk": ("дякую за перегляд", "дякуємо за перегляд", "субтитрувальниця Оля Шор", "підписуйтесь на канал"),
    "vi": (
        "cảm ơn các bạn đã theo dõi",
        "cảm ơn các bạn đã xem video",
        "hẹn gặp lại các bạn trong những video tiếp theo",
        "hãy subscribe cho kênh Ghiền Mì Gõ Để không bỏ lỡ những video hấp dẫn",
    ),
    "zh": (
        "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
        "請不吝點贊 訂閱 轉發 打賞支持明鏡與點點欄目",
        "感谢观看",
        "谢谢观看",
        "感謝觀看",
        "謝謝觀看",
        "谢谢大家收看",
        "中文字幕志愿者 李宗盛",
        "中文字幕志願者 李宗盛",
        "字幕志愿者 杨茜茜",
        "優優獨播劇場 YoYo Television Series Exclusive",
        "多謝您收睇時局新聞 再會",
    ),
}

_SMALL_WORDS: Mapping[str, tuple[str, ...]] = {
    "de": ("vielen Dank", "danke", "danke schön", "tschüss"),
    "en": (
        "you",
        "thank you",
        "thank you very much",
        "thank you so much",
        "thanks",
        "bye",
        "bye bye",
        "okay",
        "oh",
        "so",
    ),
    "es": ("gracias", "muchas gracias"),
    "fr": ("merci", "merci beaucoup"),
    "it": ("grazie", "grazie mille"),
    "ja": ("ありがとうございました", "ありがとうございます"),
    "ko": ("감사합니다", "고맙습니다"),
    "nl": ("dank u wel", "bedankt"),
    "pl": ("dziękuję",),
    "pt": ("obrigado", "obrigada", "tchau"),
    "ru": ("спасибо", "всем пока"),
    "tr": ("teşekkür ederim", "teşekkürler"),
    "zh": ("谢谢", "谢谢大家", "謝謝", "謝謝大家"),
}

_CREDITS = (
    "amaraorg",
    "untertitelungdeszdf",
    "untertitelimauftragdes",
    "subtitlesby",
    "captionsby",
    "subtitledby",
    "字幕by",
)
"""How credits begin or what they name; nobody says these."""


def _key(text: str) -> str:
    """Return letters and digits alone, so that case, marks and spaces do not matter."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(char for char in folded if char.isalnum())


def _once(key: str) -> str:
    """Return what is said over and over in ``key``, or ``key``: its shortest period."""
    return key[: (key + key).find(key, 1)] if key else key


def _keys(lists: Mapping[str, Iterable[str]]) -> frozenset[str]:
    return frozenset(_once(_key(phrase)) for phrases in lists.values() for phrase in phrases)


ARTEFACTS = MappingProxyType(_ARTEFACTS)
"""Phrases by language that hardly belong in a recording unless it is such a video."""

SMALL_WORDS = MappingProxyType(_SMALL_WORDS)
"""Phrases by language that models make up, and that people say as well."""

_ARTEFACT_KEYS, _SMALL_KEYS = _keys(ARTEFACTS), _keys(SMALL_WORDS)


def is_artefact(text: str) -> bool:
    """Tell whether the whole text is a phrase that models make up, or a credit of subtitles."""
    key = _once(_key(text))
    return key in _ARTEFACT_KEYS or any(credit in key for credit in _CREDITS)


def is_small_word(text: str) -> bool:
    """Tell whether the whole text is a small phrase that models make up and people say as well."""
    return _once(_key(text)) in _SMALL_KEYS
