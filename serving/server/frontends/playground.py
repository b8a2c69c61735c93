"""The page at `/`: one static file, with the headers that let it do what it does and no more."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

from starlette.responses import Response

MODELS_PATH: Final = "/playground/models"
"""Answers {"models": [..]}, the names to choose from."""

_PAGE = Path(__file__).with_name("playground.html")
_INLINE = r"<{tag}>(.*?)</{tag}>"


class Playground:
    """The page, read once."""

    def __init__(self) -> None:
        self._page = _PAGE.read_text(encoding="utf-8")
        self._headers = {
            "Content-Security-Policy": (
                f"default-src 'none'; script-src {_hashes('script', self._page)}; "
                f"style-src {_hashes('style', self._page)}; img-src blob: data:; "
                "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            # An upgraded server's page replaces the old one at the next reload.
            "Cache-Control": "no-cache",
        }

    def page(self) -> Response:
        """The page with its headers."""
        return Response(self._page, headers=self._headers, media_type="text/html")


def _hashes(tag: str, page: str) -> str:
    """What Content-Security-Policy calls the inline elements of a page, and nothing else."""
    texts = re.findall(_INLINE.format(tag=tag), page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
