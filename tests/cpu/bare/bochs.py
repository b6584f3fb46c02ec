# SPDX-License-Identifier: Apache-2.0
"""Run a static x86-64 program on a machine with AVX-512 that exists only as Bochs.

`python tests/cpu/bare/bochs.py MACHINE PROGRAM [NAME=VALUE...] [ARGUMENT...]` prints what the program writes
and ends with its status. MACHINE is the image that CMake's target bare_machine makes. Needs Debian's bochs,
bochsbios, vgabios and bochs-term, which run some thirty million instructions a second.
"""

import contextlib
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECTOR = 512
IMAGE_SECTORS = 63
CYLINDER = 16 * 63 * SECTOR
TIMEOUT = 600

CONFIGURATION = """\
megs: 512
cpu: model=corei7_skylake_x, count=1, ips=1000000, reset_on_triple_fault=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
boot: disk
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path="disk.img", mode=flat, cylinders={cylinders}, heads=16, spt=63
parport1: enabled=1, file="printed.txt"
log: bochs.log
panic: action=fatal
display_library: term
"""


def disk_of(machine: bytes, program: bytes, arguments: list[str], environment: list[str]) -> bytes:
    """Return the boot sector with what it reads, the arguments' sector, and the program."""
    if len(machine) > IMAGE_SECTORS * SECTOR:
        raise ValueError(f"the machine must be at most {IMAGE_SECTORS} sectors, got {len(machine)} bytes")
    lists = ("".join(f"{text}\0" for text in texts) + "\0" for texts in (arguments, environment))
    last = struct.pack("<Q", len(program)) + "".join(lists).encode()
    if len(last) > SECTOR:
        raise ValueError("arguments and environment must fit a sector")
    disk = machine.ljust(IMAGE_SECTORS * SECTOR, b"\0") + last.ljust(SECTOR, b"\0") + program
    return disk.ljust(-(-len(disk) // CYLINDER) * CYLINDER, b"\0")


def boot(folder: Path) -> str:
    """Run Bochs until the program has ended; return what it printed."""
    log = folder / "bochs.log"
    # This build of Bochs starts in its debugger, and its terminal display wants a terminal.
    (folder / "commands").write_text("c\n", encoding="ascii")
    command = ["bochs", "-q", "-f", "configuration", "-rc", "commands"]
    ours, terminal = pty.openpty()
    bochs = subprocess.Popen(
        command,
        cwd=folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(terminal)
    os.set_blocking(ours, False)
    deadline = time.monotonic() + TIMEOUT
    said = ""
    while bochs.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
        with contextlib.suppress(OSError):
            os.read(ours, 1 << 16)  # or it would wait for its display
        said = log.read_text(errors="replace") if log.exists() else ""
        if re.search(r"Shutdown port|triple fault|no resolution", said):
            break
    bochs.kill()
    bochs.wait()
    os.close(ours)
    printed = folder / "printed.txt"
    text = printed.read_text(errors="replace") if printed.exists() else ""
    if not re.search(r"exit status \d+\n\Z", text):
        sys.exit(f"{text}\n{said[-3000:]}\nthe program did not end")
    return text


def main(machine: Path, program: Path, rest: list[str]) -> int:
    """Print what the program prints and return its status."""
    environment = [text for text in rest if re.match(r"[A-Z_]+=", text)]
    arguments = [program.name, *(text for text in rest if text not in environment)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        disk = disk_of(machine.read_bytes(), program.read_bytes(), arguments, environment)
        (folder / "disk.img").write_bytes(disk)
        (folder / "configuration").write_text(
            CONFIGURATION.format(cylinders=len(disk) // CYLINDER), encoding="ascii"
        )
        text, _, status = boot(folder).rpartition("\nexit status ")
    print(text)
    return int(status)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
