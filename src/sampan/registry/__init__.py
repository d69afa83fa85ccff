"""Registries: OCI distribution-spec v1.1 and docker's token authentication, over urllib3. Nothing is kept on disk.

Rooms, each using those before it: `host` (where a registry answers), `transport` (HTTP: proxies, TLS, redirects,
bounds), `credential` (who the person is to a registry: docker's file and helpers), `auth` (challenges and tokens),
`client` (manifests and blobs of one repository). May import the floors below; the store is `image`'s.

All that a registry says is hostile: each answer has a bound on its size, its time, its redirects and its repetitions,
and content counts only by its digest. urllib3 costs 50 ms: only who fetches something imports this.
"""
