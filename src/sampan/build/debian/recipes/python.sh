# Python where the official image has it: commands in /usr/local/bin, packages in /usr/local/lib/pythonX.Y/site-packages.
# An environment of the whole image does that, with pip from Debian's own wheels.
set -e
cp -p /tmp/py_compile.py "/usr/lib/python$VERSION/py_compile.py"
"/usr/bin/python$VERSION" -m venv --system-site-packages --symlinks /usr/local
rm -f /usr/local/bin/activate* /usr/local/bin/Activate.ps1 /usr/local/.gitignore
rm -f "/usr/lib/python$VERSION/EXTERNALLY-MANAGED"
# /usr/local/lib64 would be a link of the environment's own.
if [ -L /usr/local/lib64 ]; then rm /usr/local/lib64; fi
# By the hash of its source and unchecked (PEP 552), a compiled file is the same each time, and is believed without a look
# at the source.
"/usr/bin/python$VERSION" -m compileall -f -q -j 0 -x 'lib2to3/tests|/bad' --invalidation-mode unchecked-hash \
    "/usr/lib/python$VERSION" "/usr/local/lib/python$VERSION" || true
