"""Debian as a base: a signed index is verified, a closure of packages chosen, and their files laid out as one layer.

`version`, `stanza`, `closure` and `deb` are pure; `mirror` fetches, `index` verifies, `layout` writes. No maintainer
script is run: what the needed ones would have done stands in `layout`. Mirrors and keys come from the machine's apt
settings.
"""
