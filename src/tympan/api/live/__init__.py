"""Live speech on WebSockets: OpenAI's realtime protocol and a simple one, over one door."""
