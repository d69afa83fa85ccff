"""The languages of the Open Container Initiative: digests, references, image documents, the runtime's config.json.

Pure: no kernel, sockets or processes. Rooms: `digest`, `reference` (distribution's grammar), `image` (image-spec v1.1:
descriptor, manifest, index, config), `runtime` (runtime-spec v1.2: config.json). May import floors 1 and 2.
"""
