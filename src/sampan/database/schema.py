"""Every table, in the order in which the rooms stand, and how an older file becomes this one.

The version is PRAGMA user_version. A new file is made by CREATE in one transaction; an older one is brought up by
MIGRATIONS in one transaction; a newer one is refused, since this program cannot know what its rows mean.

Names of things (`object` in `holds`, see `lease`): `blob:DIGEST`, `image:ID`, `chain:CHAINID`.
"""

VERSION = 3

CREATE = """
-- image: an image is its config; `config` caches the config's text so that the hot path opens no blob.
CREATE TABLE images(
    id TEXT PRIMARY KEY,            -- digest of the config, docker's image id
    manifest TEXT NOT NULL,         -- digest of the manifest that was added last
    config TEXT NOT NULL,           -- JSON, one object, for reading only: the bytes with the digest are in blobs/
    created INTEGER NOT NULL        -- seconds since the epoch, from the config; 0 where it says nothing
) STRICT;
CREATE TABLE layers(
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,      -- 0 is the lowest
    digest TEXT NOT NULL,           -- of the blob, as it is stored
    diff_id TEXT NOT NULL,          -- of the tar inside
    chain_id TEXT NOT NULL,         -- of this layer on all below it
    media_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,    -- of the blob
    PRIMARY KEY(image_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX layers_digest ON layers(digest);
CREATE INDEX layers_chain ON layers(chain_id);
CREATE TABLE names(
    reference TEXT PRIMARY KEY,     -- canonical: docker.io/library/python:3.13
    image_id TEXT NOT NULL REFERENCES images(id)
) STRICT, WITHOUT ROWID;
CREATE INDEX names_image ON names(image_id);

-- storage: AUTOINCREMENT, so that the directory name of a removed snapshot is never given out again.
CREATE TABLE snapshots(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    chain_id TEXT NOT NULL,
    shift INTEGER NOT NULL,         -- first host id of the range the files are owned by; 0: the image's own ids
    ready INTEGER NOT NULL,         -- 0 while it is being unpacked
    size_bytes INTEGER NOT NULL,
    UNIQUE(chain_id, shift)
) STRICT;

-- engine
CREATE TABLE containers(
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image_id TEXT REFERENCES images(id),
    created INTEGER NOT NULL,
    active INTEGER NOT NULL DEFAULT 0,  -- 1 from the transaction that starts it until a command has recorded its end
    record TEXT NOT NULL            -- JSON, versioned by engine
) STRICT;
CREATE INDEX containers_image ON containers(image_id);
CREATE INDEX containers_active ON containers(id) WHERE active;
CREATE TABLE ranges(
    start INTEGER PRIMARY KEY,      -- first of 65536 host ids
    container_id TEXT NOT NULL
) STRICT;
CREATE INDEX ranges_container ON ranges(container_id);
CREATE TABLE leases(
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,             -- pull, build, run, load, ...
    pid INTEGER NOT NULL,           -- with the two below: one process and no other
    start_time INTEGER NOT NULL,
    boot_id TEXT NOT NULL
) STRICT;
CREATE TABLE holds(
    lease_id INTEGER NOT NULL REFERENCES leases(id) ON DELETE CASCADE,
    object TEXT NOT NULL,
    PRIMARY KEY(lease_id, object)
) STRICT, WITHOUT ROWID;
CREATE INDEX holds_object ON holds(object);

-- network
CREATE TABLE networks(
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,       -- nanoseconds since the epoch
    record TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE addresses(
    network TEXT NOT NULL,
    ipv4 TEXT NOT NULL,
    container_id TEXT NOT NULL,
    PRIMARY KEY(network, ipv4),
    UNIQUE(network, container_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX addresses_container ON addresses(container_id);

CREATE TABLE volumes(
    name TEXT PRIMARY KEY,
    created INTEGER NOT NULL,
    record TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;

-- build: what a vertex with this digest came to; its layer's blob stays while the row does.
CREATE TABLE builds(
    key TEXT PRIMARY KEY,
    layer TEXT NOT NULL,            -- digest of the blob
    diff_id TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,    -- of the blob
    record TEXT NOT NULL DEFAULT '{}',
    used INTEGER NOT NULL           -- seconds since the epoch
) STRICT, WITHOUT ROWID;
CREATE INDEX builds_layer ON builds(layer);
-- build: by what else the results of RUN are found, see build.trace.
CREATE TABLE traces(
    key TEXT PRIMARY KEY,           -- of the row in builds; one without is stale
    trace_key TEXT NOT NULL,        -- what was done, on all but the layers of the context
    facts TEXT NOT NULL,            -- JSON: what it saw of those
    used INTEGER NOT NULL           -- nanoseconds since the epoch
) STRICT, WITHOUT ROWID;
CREATE INDEX traces_key ON traces(trace_key);

-- A container that goes takes with it what only it could use, whoever deletes the row.
CREATE TRIGGER container_gone AFTER DELETE ON containers BEGIN
    DELETE FROM ranges WHERE container_id = OLD.id;
    DELETE FROM addresses WHERE container_id = OLD.id;
END;
"""

# MIGRATIONS[n] is the script that turns version n + 1 into version n + 2.
MIGRATIONS: tuple[str, ...] = (
    """
ALTER TABLE networks RENAME TO networks_1;
CREATE TABLE networks(
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,       -- nanoseconds since the epoch
    record TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO networks SELECT lower(hex(randomblob(32))), name, 0, record FROM networks_1;
DROP TABLE networks_1;
""",
    """
CREATE TABLE traces(
    key TEXT PRIMARY KEY,           -- of the row in builds; one without is stale
    trace_key TEXT NOT NULL,        -- what was done, on all but the layers of the context
    facts TEXT NOT NULL,            -- JSON: what it saw of those
    used INTEGER NOT NULL           -- nanoseconds since the epoch
) STRICT, WITHOUT ROWID;
CREATE INDEX traces_key ON traces(trace_key);
""",
)
