"""ggml files of Whisper models, as whisper.cpp reads them: made from other formats, and looked into."""
