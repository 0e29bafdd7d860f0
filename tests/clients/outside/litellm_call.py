"""LiteLLM: one call through each of its two providers for such servers. Arguments as for the others."""

import sys
from pathlib import Path

import litellm


def main(url: str, path: str, model: str) -> None:
    """Print the text that both agree on."""
    found = set()
    for provider in ("openai", "hosted_vllm"):
        with Path(path).open("rb") as file:
            answer = litellm.transcription(f"{provider}/{model}", file, api_base=f"{url}/v1", api_key="none")
        found.add(answer.text)
    assert len(found) == 1, found
    sys.stdout.write(found.pop())


main(*sys.argv[1:])
