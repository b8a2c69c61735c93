"""The page at `/`: one static file, with headers that restrict it to what it needs."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

from starlette.responses import Response

MODELS_PATH: Final = "/playground/models"
"""Path of the model names that the page offers, {"models": [...]}."""

_CONTENT_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src {styles}; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Browsers revalidate the page, so that they get the new one after an upgrade.
    "Cache-Control": "no-cache",
}


def read_page() -> Response:
    """Reads the page from its file."""
    page = Path(__file__).with_name("playground.html").read_text(encoding="utf-8")
    policy = _CONTENT_POLICY.format(scripts=_hashes("script", page), styles=_hashes("style", page))
    headers = {"Content-Security-Policy": policy, **_HEADERS}
    return Response(page, headers=headers, media_type="text/html")


def _hashes(tag: str, page: str) -> str:
    """Returns the Content-Security-Policy sources that allow the inline elements of a page."""
    texts = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
