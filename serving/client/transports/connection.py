"""Where a server is, how the way to it is secured, and what a channel to it is opened with."""

import ipaddress
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc

from keras_ae.errors import ConfigurationError

OPTIONS: Final = (
    # Python's default is 4 MB; the server's own limit decides.
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    # A server that comes back is found soon; the defaults are 1 and 120 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_PLACE = re.compile(
    r"(?:dns:(?:///)?|ipv[46]:)?(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]+)?"
)


@dataclass(frozen=True)
class Connection:
    """A server's address and what is needed to talk to it.

    Attributes:
        target: "host:port" or "unix:/path" for gRPC, "http://host:port" or "https://..." for REST.
        tls: whether gRPC is encrypted; REST is if its address says https.
        ca_certificate: PEM file of the authorities to trust instead of the system's.
        client_certificate, client_key: PEM files, where the server wants to know the client.
        token: sent as "authorization: Bearer TOKEN".
        options: gRPC channel arguments that replace or join `OPTIONS`.

    Raises:
        ConfigurationError: if these do not fit together, or a token would travel unencrypted to
            another machine.
    """

    target: str
    tls: bool = False
    ca_certificate: str | Path | None = None
    client_certificate: str | Path | None = None
    client_key: str | Path | None = None
    token: str | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not self.target or self.target != self.target.strip():
            raise ConfigurationError(f"expected a target as 127.0.0.1:8500; got {self.target!r}")
        if self.rest:
            _check_url(self.target)
        if self.rest and self.tls and not self.encrypted:
            raise ConfigurationError(f"REST over TLS is at https://...; got {self.target}")
        if bool(self.client_certificate) != bool(self.client_key):
            raise ConfigurationError("a client certificate and its key come together; got one")
        if (self.ca_certificate or self.client_certificate) and not self.encrypted:
            raise ConfigurationError(f"certificates are for TLS, which is off for {self.target}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ConfigurationError("expected a token of printable ASCII characters on one line")
        if self.token and not self.encrypted and not self.local:
            raise ConfigurationError(
                f"a token would travel in plain text to {self.target}: use TLS, or no token"
            )

    @property
    def rest(self) -> bool:
        """Whether the target is reached over HTTP instead of gRPC."""
        return self.target.startswith(("http://", "https://"))

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self.target.startswith("https://") or (self.tls and not self.rest)

    @property
    def local(self) -> bool:
        """Whether nothing leaves this machine."""
        if self.target.startswith(("unix:", "unix-abstract:")):
            return True
        host = urlsplit(self.target).hostname or "" if self.rest else _host(self.target)
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What each request carries."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channel_options(self) -> list[tuple[str, Any]]:
        """Arguments of a gRPC channel."""
        options = dict(OPTIONS)
        if self.local:
            # A proxy that the environment names does not know this machine's ports.
            options["grpc.enable_http_proxy"] = 0
        return list({**options, **dict(self.options)}.items())

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """Credentials of a gRPC channel; None without TLS."""
        if not self.encrypted:
            return None
        return grpc.ssl_channel_credentials(
            _read(self.ca_certificate), _read(self.client_key), _read(self.client_certificate)
        )

    def http_options(self) -> dict[str, Any]:
        """Arguments of an httpx client."""
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
            raise ConfigurationError(f"cannot use the certificates given: {error}") from error
        return context


def _host(target: str) -> str:
    """The host of host:port or [v6]:port, with a scheme of gRPC (dns:///) as well."""
    place = _PLACE.fullmatch(target)
    return place["v6"] or place["name"] if place else target


def _check_url(url: str) -> None:
    """Nothing stands beside the host that another reader could take for the host."""
    try:
        parts = urlsplit(url)
        fine = bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or "@" in parts.netloc or "?" in url or "#" in url:
        raise ConfigurationError(
            "expected a REST target as http://127.0.0.1:8501, without user, query or fragment"
        )


def _read(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
