"""Adapters: a folder for each technology."""
