"""Our program on a read-only mount (CVE-2019-5736)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.first, pytest.mark.root]
SOURCE = str(Path(__file__).resolve().parents[2] / "src")
# What a container does: keep its own program open, become another one, and write to the first when it has ended.
LATER = """
import os, sys, time
for _ in range(500):
    try:
        os.open(f'/proc/self/fd/{sys.argv[1]}', os.O_WRONLY)
        print('written')
        break
    except OSError as error:
        if error.errno != 26:  # ETXTBSY: not ended yet
            print(os.strerror(error.errno))
            break
    time.sleep(0.01)
"""
ATTACK = f"""
import os, sys
fd = os.open('/proc/self/exe', os.O_PATH)
os.set_inheritable(fd, True)
os.execv(sys.argv[1], [sys.argv[1], '-I', '-S', '-c', {LATER!r}, str(fd)])
"""
SEAL = """
import sys
from sampan.runtime import interpreter
interpreter.execute_sealed(sys.argv[1], (sys.executable, *sys.argv[2:]), {})
"""


@pytest.mark.parametrize(("how", "answer"), [("plain", "written"), ("sealed", "Read-only file system")])
def test_a_sealed_program_cannot_be_written(place: str, how: str, answer: str) -> None:
    """Through /proc/self/exe a sealed program is read-only; control: a copy that is not sealed can be written."""
    program = f"{place}/python"
    shutil.copy(os.path.realpath(sys.executable), program)
    argv = ["-I", "-S", "-c", ATTACK, sys.executable]
    argv = [program, "-c", SEAL, program, *argv] if how == "sealed" else [program, *argv]
    environment = {"PYTHONPATH": SOURCE, "PYTHONHOME": sys.base_prefix}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment, timeout=20)
    assert done.stdout.strip() == answer, done.stderr
