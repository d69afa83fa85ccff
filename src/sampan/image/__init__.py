"""Images: their content by digest, their records and names, and the archives that carry them between machines.

Rooms: `content` (blobs), `store` (records and names), `removal` (untag, delete, prune), `unpack` (an image's layers as
directories), `archive` (save and load), `importer` (a root file system becomes an image). May import storage, oci,
database and the floors below.
"""
