"""What the loaded model cannot do is refused over HTTP before any work, whatever the route."""

from collections.abc import Iterator

import pytest

from tests.api.job_support import job_site, n_jobs, pcm, post, refusal
from tests.api.support import Facts, Site
from tympan.domain import Abilities, LanguageUse

CANNOT = Abilities(LanguageUse.NEEDS, translation=False, prompts=False, temperatures=False, word_times=False)
ASKS = {
    "language": {},
    "prompt": {"language": "de", "prompt": "Ada"},
    "hotwords": {"language": "de", "hotwords": "Ada"},
    "temperature": {"language": "de", "temperature": "0.4"},
    "timestamp_granularities": {
        "language": "de",
        "response_format": "verbose_json",
        "timestamp_granularities[]": "word",
    },
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server that this module's tests share."""
    with job_site(tmp_path_factory.mktemp("jobs")) as running:
        yield running


@pytest.mark.parametrize("param", ASKS)
def test_a_call_is_refused_by_name(shop: Site, param: str) -> None:
    """The pipeline is not even asked."""
    shop.transcriber.info = Facts(can=CANNOT)
    assert refusal(shop.post(data=ASKS[param])) == (400, "unsupported_option", param)
    shop.transcriber.info = Facts()
    assert shop.post(data=ASKS[param]).status_code == 200


def test_a_translation_is_refused(shop: Site) -> None:
    """By a model that writes only what it hears."""
    shop.transcriber.info = Facts(can=Abilities(translation=False))
    assert refusal(shop.post("/v1/audio/translations")) == (400, "unsupported_option", "task")


@pytest.mark.parametrize("param", ASKS)
def test_a_job_is_refused_by_name(shop: Site, param: str) -> None:
    """It is not even stored, for it would only fail later."""
    shop.transcriber.info = Facts(can=CANNOT)
    assert refusal(post(shop, files={"file": pcm(1)}, data=ASKS[param])) == (400, "unsupported_option", param)
    assert n_jobs(shop) == 0
