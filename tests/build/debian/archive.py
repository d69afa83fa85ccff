"""Making .debs and a signed mirror for tests, served from loopback."""

import gzip
import hashlib
import http.server
import io
import lzma
import os
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pysequoia


def tar(files: Mapping[str, "bytes | tarfile.TarInfo"]) -> bytes:
    """Return a tar of regular files, or of whatever a TarInfo says."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return out.getvalue()


def member(name: str, content: bytes) -> bytes:
    """Return one member of an ar archive."""
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) & 1)


def deb(name: str, files: Mapping[str, "bytes | tarfile.TarInfo"], version: str = "1") -> bytes:
    """Return a .deb, its data tar packed with xz."""
    control = gzip.compress(tar({"./control": f"Package: {name}\nVersion: {version}\n".encode()}), mtime=0)
    parts = (("debian-binary", b"2.0\n"), ("control.tar.gz", control), ("data.tar.xz", lzma.compress(tar(files))))
    return b"!<arch>\n" + b"".join(member(*part) for part in parts)


class Archive:
    """A Debian archive in a directory, signed with a key of its own."""

    def __init__(self, root: str, key: pysequoia.Tsk | None = None) -> None:
        self.root = root
        self.key = key or pysequoia.Tsk.generate("Test Archive <archive@example.org>")
        self.keyring = f"{root}/keyring.gpg"
        os.makedirs(root, exist_ok=True)
        with open(self.keyring, "wb") as file:
            file.write(bytes(self.key.extract_certificate()))

    def publish(
        self, suite: str, debs: Mapping[str, bytes], *, depends: str = "", fields: str = "", codename: str = ""
    ) -> None:
        """Write packages, their index and a signed release."""
        stanzas = []
        for name, contents in debs.items():
            path = f"pool/main/{name}_1_amd64.deb"
            self.write(path, contents)
            digest = hashlib.sha256(contents).hexdigest()
            stanzas.append(
                f"Package: {name}\nVersion: 1\nFilename: {path}\nSize: {len(contents)}\nSHA256: {digest}\n"
                + (f"Depends: {depends}\n" if depends else "")
            )
        packages = lzma.compress("\n".join(stanzas).encode())
        digest = hashlib.sha256(packages).hexdigest()
        self.write(f"dists/{suite}/main/binary-amd64/by-hash/SHA256/{digest}", packages)
        release = (
            f"Suite: {suite}\nCodename: {codename or suite}\nDate: Sat, 21 Nov 2026 09:15:44 UTC\n"
            f"Acquire-By-Hash: yes\n{fields}"
            f"SHA256:\n {digest} {len(packages)} main/binary-amd64/Packages.xz\n"
        )
        self.sign(suite, release.encode())

    def sign(self, suite: str, release: bytes) -> None:
        """Write `release` as a clear-signed InRelease."""
        signed = pysequoia.sign(self.key.signer(), release, mode=pysequoia.SignatureMode.CLEAR)
        self.write(f"dists/{suite}/InRelease", bytes(signed))

    def write(self, path: str, content: bytes) -> None:
        """Write one file of the archive."""
        os.makedirs(os.path.dirname(f"{self.root}/{path}"), exist_ok=True)
        with open(f"{self.root}/{path}", "wb") as file:
            file.write(content)

    def read(self, path: str) -> bytes:
        """Return one file of the archive."""
        with open(f"{self.root}/{path}", "rb") as file:
            return file.read()


@contextmanager
def served(directory: str) -> Iterator[str]:
    """Serve `directory` on loopback; yield its URL."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 -- as the base class
            super().__init__(*arguments, directory=directory, **options)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: ANN401 -- as the base class
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
