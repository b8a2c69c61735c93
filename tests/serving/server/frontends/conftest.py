import pytest

from tests.serving.server.frontends.browsing import opened


@pytest.fixture(scope="module")
def page(browser, rest_server):
    """A page that tests share; each drops another image."""
    with opened(browser, rest_server.url) as page:
        yield page


@pytest.fixture
def fresh_page(browser, rest_server):
    with opened(browser, rest_server.url) as page:
        yield page
