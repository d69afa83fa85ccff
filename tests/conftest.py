"""What every test stands on: tiers, capabilities, the leak check and the ground (directories, a root file system).

Plugins, one noun each: `tier` (which tests run, the count at the end), `capability` (what a test needs, `--require`),
`leak` (what a test left on the machine), `golden` (texts that people read), `ground` (SAMPAN_ROOT, busybox), `person`
(a normal user), `terminal` (signals as a person has them), `registry` (docker-registry on loopback),
`libseccomp` (whose filters ours are compared with).
"""

pytest_plugins = (
    "tests.plugin.capability",
    "tests.plugin.golden",
    "tests.plugin.ground",
    "tests.plugin.leak",
    "tests.plugin.libseccomp",
    "tests.plugin.person",
    "tests.plugin.registry",
    "tests.plugin.terminal",
    "tests.plugin.tier",
)
