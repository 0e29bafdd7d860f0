"""The routes that answer at once: OpenAI's transcriptions and translations, and detection of languages."""
