"""Measuring: engines on this machine, servers anywhere, and whether one measurement is worse than another."""
