"""A person's browser on the review page, as far as the driver needs one: log in, read the form, confirm."""

from html.parser import HTMLParser

import httpx2


class PageRefused(Exception):
    """The page did not do what the person asked; the text holds its status."""


class Browser:
    """One person's session on the pages, from a one-time login link on."""

    def __init__(self, base_url: str, login_link: str) -> None:
        self._client = httpx2.Client(base_url=base_url, follow_redirects=True, timeout=120)
        _good(self._client.get(login_link))

    def confirm(self, review_path: str, rows: int) -> None:
        """Opens the review, types the number of rows into its confirm form and sends it."""
        form = _Form(f"{review_path}/confirm")
        form.feed(_good(self._client.get(review_path)).text)
        if not form.fields:
            raise PageRefused(f"{review_path} offers this person no confirm form")
        origin = str(self._client.base_url).rstrip("/")
        _good(
            self._client.post(
                f"{review_path}/confirm", data={**form.fields, "rows": str(rows)}, headers={"Origin": origin}
            )
        )

    def close(self) -> None:
        """Forgets the session's cookie."""
        self._client.close()


class _Form(HTMLParser):
    """The hidden fields of the one form whose action ends in `action`."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self._action = action
        self._inside = False
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            self._inside = (found.get("action") or "").endswith(self._action)
        elif tag == "input" and self._inside and found.get("type") == "hidden":
            self.fields[found.get("name") or ""] = found.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


def _good(response: httpx2.Response) -> httpx2.Response:
    if not response.is_success:
        raise PageRefused(f"{response.request.method} {response.request.url.path}: {response.status_code}")
    return response
