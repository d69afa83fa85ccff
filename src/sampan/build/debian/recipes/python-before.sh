# Debian's scripts compile one file after the other, with a hash seed of chance, which shows in sets. That is left out: all
# is compiled at once after, the same each time.
set -e
cp -p "/usr/lib/python$VERSION/py_compile.py" /tmp/py_compile.py
sed -i 's/^def main(/def compile(*_, **__):\n    return None\n\n\ndef main(/' "/usr/lib/python$VERSION/py_compile.py"
