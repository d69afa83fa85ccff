"""The record of everything: one SQLite file in SAMPAN_ROOT, opened by every command for as long as it works.

Rooms: `connection` (open, transactions, the reserve for a full disk), `schema` (all tables and their versions), `lease`
(what a process in the middle of its work keeps from being pruned). The queries live in the rooms that own the tables.
May import floors 1 and 2; never the kernel room, which is its neighbour.
"""
