"""A bucket of Google Cloud Storage on this machine, for tests without network and credentials.

The objects are stored by gcp-storage-emulator. Python clients (google-cloud-storage, Beam) find it
by STORAGE_EMULATOR_HOST. TensorFlow's own filesystem connects to Google's hosts only; its curl uses
this server as the HTTPS proxy to them, and the server itself answers the requests in the tunnels.

Run as a script, this file is that server. It runs in a process of its own because TensorFlow holds
the interpreter's lock during some of its requests.
"""

import io
import json
import logging
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import trustme
from gcp_storage_emulator import server
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.storage import Storage

HOSTS = ("storage.googleapis.com", "www.googleapis.com", "oauth2.googleapis.com")
FORBIDDEN = "forbidden-bucket"
"""Name of a bucket that exists but refuses access."""
TIMEOUT_SECONDS = 30


class Bucket:
    """A bucket that is being served.

    Attributes:
        name: name of the bucket.
        uri: "gs://NAME".
        environment: environment variables with which a process reaches the bucket.
    """

    def __init__(self, name: str, port: int, folder: Path):
        self.name, self.uri = name, f"gs://{name}"
        self._url = f"http://127.0.0.1:{port}"
        authority, user = str(folder / "authority.pem"), str(folder / "user.json")
        self.environment = {
            "STORAGE_EMULATOR_HOST": self._url,
            "https_proxy": self._url,
            "CURL_CA_BUNDLE": authority,
            "REQUESTS_CA_BUNDLE": authority,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            "GOOGLE_APPLICATION_CREDENTIALS": user,
            "GOOGLE_CLOUD_PROJECT": "none",
            "NO_GCE_CHECK": "true",
            "GCS_RETRY_CONFIG_MAX_RETRIES": "2",
        }

    def names(self, below: str = "") -> list[str]:
        """Names of objects with a prefix, sorted, without the markers of folders."""
        return [name for name in self._list(below) if not name.endswith("/")]

    def markers(self, below: str = "") -> list[str]:
        """Names of the objects with which TensorFlow marks folders."""
        return [name for name in self._list(below) if name.endswith("/")]

    def written(self, below: str = "") -> list[str]:
        """Names of objects with a prefix in the order in which they were written."""
        names = json.loads(self._request("/written"))
        return [name for name in names if name.startswith(below) and not name.endswith("/")]

    def read(self, name: str) -> bytes:
        """The content of an object."""
        return self._request(f"/{self.name}/{quote(name)}")

    def write(self, name: str, content: bytes) -> None:
        """Creates or replaces an object."""
        self._request(f"/{self.name}/{quote(name)}", "PUT", content)

    def put(self, folder: Path, below: str) -> str:
        """Uploads the files of a folder below a name and returns the URI of the copy."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.write(f"{below}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{self.uri}/{below}"

    def get(self, below: str, folder: Path) -> Path:
        """Downloads the objects below a name to a folder and returns the folder."""
        for name in self.names(f"{below}/"):
            path = folder / name.removeprefix(f"{below}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(name))
        return folder

    def _list(self, below: str) -> list[str]:
        text = self._request(f"/storage/v1/b/{self.name}/o?prefix={quote(below, '')}")
        return [item["name"] for item in json.loads(text)["items"]]

    def _request(self, path: str, method: str = "GET", content: bytes | None = None) -> bytes:
        request = Request(self._url + path, content, method=method)
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_SECONDS) as response:
            return bytes(response.read())


@contextmanager
def serve_bucket(folder: Path, name: str) -> Iterator[Bucket]:
    """Serves an empty bucket until the end of the block.

    Args:
        folder: folder for certificate and credentials.
        name: name of the bucket.
    """
    command = [sys.executable, __file__, str(folder), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Bucket(name, int(process.stdout.readline()), folder)
        # The server stops at the end of its standard input.
        process.stdin.close()


class _Storage(Storage):
    """Objects in memory, with the order in which they were written."""

    def __init__(self) -> None:
        self.lock, self.written = threading.Lock(), []
        super().__init__(use_memory_fs=True)

    def create_file(self, bucket_name: str, file_name: str, *rest: Any) -> None:
        super().create_file(bucket_name, file_name, *rest)
        self.written.append(file_name)

    def _write_config_to_file(self) -> None:
        """Does nothing: listing all objects at each change takes longer with each object."""


class _Handler(server.RequestHandler):
    """The emulator's request handler, which is also the proxy in front of it."""

    protocol_version = "HTTP/1.1"
    # Otherwise the body of each response waits for the acknowledgement of its headers.
    disable_nagle_algorithm = True

    def __init__(self, storage: _Storage, tls: ssl.SSLContext, *args: Any):
        self._tls = tls
        super().__init__(storage, *args)

    def do_CONNECT(self) -> None:  # noqa: N802
        if self.path.removesuffix(":443") not in HOSTS:
            self.send_error(403)
            return
        self.send_response(200)
        self.end_headers()
        self.connection = self._tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def do_GET(self) -> None:  # noqa: N802
        self._respond(super().do_GET)

    def do_POST(self) -> None:  # noqa: N802
        self._respond(super().do_POST)

    def do_PUT(self) -> None:  # noqa: N802
        self._respond(super().do_PUT)

    def do_DELETE(self) -> None:  # noqa: N802
        self._respond(super().do_DELETE)

    def do_PATCH(self) -> None:  # noqa: N802
        self._respond(super().do_PATCH)

    def _respond(self, handle: Callable[[], None]) -> None:
        # The emulator does not read every body; the rest would be parsed as the next request.
        stream, body = self.rfile, self._read_body()
        self.rfile = io.BytesIO(body)
        del self.headers["Content-Length"], self.headers["Transfer-Encoding"]
        self.headers["Content-Length"] = str(len(body))
        if FORBIDDEN in self.path.split("/"):
            self._send(403, {"error": {"code": 403, "message": "no permission"}})
        elif self.path == "/token":
            self._send(200, {"access_token": "none", "expires_in": 3600})
        elif self.path == "/written":
            self._send(200, self.storage.written)
        elif self.path.endswith("/storageLayout"):
            self._send(200, {"hierarchicalNamespace": {"enabled": False}})
        else:
            with self.storage.lock:
                handle()
        self.rfile = stream

    def _read_body(self) -> bytes:
        # TensorFlow sends a Content-Length with chunked bodies; it has to be ignored.
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Location" and isinstance(self.connection, ssl.SSLSocket):
            value = value.replace("http://", "https://", 1)
        super().send_header(keyword, value)

    def _send(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Does nothing."""


def _read_data(*args: Any, read: Callable[..., Any] = server._read_data) -> Any:
    """Replaces the emulator's function, which returns None instead of b"" for an empty upload."""
    data = read(*args)
    return b"" if data is None else data


def _serve(folder: Path, name: str) -> None:
    """Prints the port and serves until standard input ends."""
    # The emulator logs every request.
    logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
    server._read_data = _read_data
    storage = _Storage()
    buckets.create_bucket(name, storage)
    tls, authority = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trustme.CA()
    authority.issue_cert(*HOSTS).configure_cert(tls)
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    secrets = dict.fromkeys(("client_id", "client_secret", "refresh_token"), "none")
    (folder / "user.json").write_text(json.dumps({"type": "authorized_user", **secrets}))
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, storage, tls))
    # Python's clients download from the URL in an object's metadata. The emulator takes its host
    # from the request that wrote the object, which is Google's if TensorFlow wrote it.
    make_resource, url = objects._make_object_resource, f"http://127.0.0.1:{httpd.server_port}"
    objects._make_object_resource = lambda host, *args, **kwargs: make_resource(
        url, *args, **kwargs
    )
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    print(httpd.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
