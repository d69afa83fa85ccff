"""Settings: the sole reader of the environment and of configuration files, Sampan's own and the machine's.

Rooms: `configuration` (Sampan's own: where the state lies, what is switched), `apt` (Debian mirrors), `index` (Python
package indexes), `trust` (CA bundles and proxies), `resolver` (name servers). May import `errors` and `units` only.
"""
