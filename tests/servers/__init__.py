"""Real servers for the tests: own ports and folders, one process group each, ended when the tests are."""
