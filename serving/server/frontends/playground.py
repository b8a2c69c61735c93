"""The page at `/`: one static file, with headers that restrict it to what it needs."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

from starlette.responses import Response

MODELS_PATH: Final = "/playground/models"
"""Path of the model names that the page offers, {"models": [...]}."""

_PAGE_FILE = Path(__file__).with_name("playground.html")
_INLINE_ELEMENT = r"<{tag}>(.*?)</{tag}>"


class Playground:
    """The page, which is read from its file once."""

    def __init__(self) -> None:
        self._page = _PAGE_FILE.read_text(encoding="utf-8")
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
            # Browsers revalidate the page, so that they get the new one after an upgrade.
            "Cache-Control": "no-cache",
        }

    def page(self) -> Response:
        """Returns the page with its headers."""
        return Response(self._page, headers=self._headers, media_type="text/html")


def _hashes(tag: str, page: str) -> str:
    """Returns the Content-Security-Policy sources that allow the inline elements of a page."""
    texts = re.findall(_INLINE_ELEMENT.format(tag=tag), page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
