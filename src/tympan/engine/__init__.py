"""Model runtimes behind one small protocol, and the catalogue of models they run."""
