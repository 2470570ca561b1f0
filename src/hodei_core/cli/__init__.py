"""The commands of `hodei`: a program like any other that embeds the library.

Needs click, which the extra `cli` installs; nothing outside this package imports it.
"""
