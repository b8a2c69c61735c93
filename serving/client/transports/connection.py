"""The address of a server, and the options and credentials of connections to it."""

import ipaddress
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc

from keras_ae.errors import ConfigurationError

ChannelOption = tuple[str, int | str | bytes]

OPTIONS: Final[tuple[ChannelOption, ...]] = (
    # Not gRPC's default limit of 4 MB for responses: the server limits the size of messages.
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    # Reconnect soon after a server restarts; the defaults are 1 and 120 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_HOST_PATTERN = re.compile(
    r"(?:dns:(?:///)?|ipv[46]:)?(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]+)?"
)


@dataclass(frozen=True)
class Connection:
    """The address of a server, and how to connect to it.

    Attributes:
        target: "host:port" or "unix:/path" for gRPC, "http://host:port" or "https://..." for REST.
        tls: whether to encrypt gRPC; REST is encrypted if its target starts with https://.
        ca_certificate: PEM file of the certificate authorities to trust instead of the system's.
        client_certificate, client_key: PEM files, for a server that verifies its clients.
        token: sent as "authorization: Bearer TOKEN".
        options: gRPC channel arguments that override or extend `OPTIONS`.

    Raises:
        ConfigurationError: if these contradict each other, or a token would be sent unencrypted to
            another machine.
    """

    target: str
    tls: bool = False
    ca_certificate: str | Path | None = None
    client_certificate: str | Path | None = None
    client_key: str | Path | None = None
    token: str | None = None
    options: tuple[ChannelOption, ...] = ()

    def __post_init__(self) -> None:
        if not self.target or self.target != self.target.strip():
            raise ConfigurationError(f"expected a target like 127.0.0.1:8500; got {self.target!r}")
        if self.rest:
            _check_url(self.target)
        if self.rest and self.tls and not self.encrypted:
            raise ConfigurationError(f"REST over TLS needs an https:// target; got {self.target}")
        if bool(self.client_certificate) != bool(self.client_key):
            raise ConfigurationError("expected a client certificate and its key; got only one")
        if (self.ca_certificate or self.client_certificate) and not self.encrypted:
            raise ConfigurationError(f"certificates are for TLS, which is off for {self.target}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ConfigurationError("expected a token of printable ASCII characters on one line")
        if self.token and not self.encrypted and not self.local:
            raise ConfigurationError(
                f"the token would be sent in plain text to {self.target}: use TLS, or no token"
            )

    @property
    def rest(self) -> bool:
        """Whether the protocol is REST over HTTP instead of gRPC."""
        return self.target.startswith(("http://", "https://"))

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used."""
        return self.target.startswith("https://") or (self.tls and not self.rest)

    @property
    def local(self) -> bool:
        """Whether the server is on this machine, so that nothing leaves it."""
        if self.target.startswith(("unix:", "unix-abstract:")):
            return True
        host = urlsplit(self.target).hostname or "" if self.rest else _host(self.target)
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Returns the headers, or gRPC metadata, of each request."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channel_options(self) -> list[ChannelOption]:
        """Returns the arguments of a gRPC channel."""
        options = dict(OPTIONS)
        if self.local:
            # A proxy from the environment variables cannot reach ports of this machine.
            options["grpc.enable_http_proxy"] = 0
        return list({**options, **dict(self.options)}.items())

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """Returns the credentials of a gRPC channel; None without TLS."""
        if not self.encrypted:
            return None
        return grpc.ssl_channel_credentials(
            _read(self.ca_certificate), _read(self.client_key), _read(self.client_certificate)
        )

    def http_options(self) -> dict[str, Any]:
        """Returns the arguments of an httpx client."""
        options: dict[str, Any] = {"headers": dict(self.headers()), "trust_env": not self.local}
        if self.encrypted:
            options["verify"] = self._ssl_context()
        return options

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_certificate)
            if self.client_certificate and self.client_key:
                context.load_cert_chain(self.client_certificate, self.client_key)
        except OSError as error:
            raise ConfigurationError(f"cannot use the certificates: {error}") from error
        return context


def _host(target: str) -> str:
    """Returns the host of host:port or [v6]:port, also with a gRPC scheme such as dns:///."""
    match = _HOST_PATTERN.fullmatch(target)
    return match["v6"] or match["name"] if match else target


def _check_url(url: str) -> None:
    """Raises ConfigurationError unless the URL names a host and has no user, query or fragment.

    URL parsers disagree about the host of a URL such as http://a#@b, and a token must not be sent
    to another host than the one that was checked.
    """
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if not has_host or "@" in parts.netloc or "?" in url or "#" in url:
        raise ConfigurationError(
            "expected a REST target such as http://127.0.0.1:8501, without user, query or fragment"
        )


def _read(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
