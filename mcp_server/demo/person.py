"""A person's browser on the review page, as far as the demo and the tests need one: log in, read, confirm, reject."""

from html.parser import HTMLParser

import httpx2


class PageRefused(Exception):
    """The page did not do what the person asked; `status` and the page's own words say why."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"{status}: {words}")
        self.status = status
        self.words = words


class Browser:
    """One person's session on the pages, from a one-time login link on."""

    def __init__(self, base_url: str, login_link: str) -> None:
        self._client = httpx2.Client(base_url=base_url, follow_redirects=True, timeout=120)
        _good(self._client.get(login_link))

    def read(self, review_path: str) -> str:
        """The words of a review page."""
        return _words(_good(self._client.get(review_path)).text)

    def confirm(self, review_path: str, rows: int) -> str:
        """Opens the review, types the number of rows into its confirm form and sends it; the answer's words."""
        return self._send(review_path, "confirm", {"rows": str(rows)})

    def reject(self, review_path: str, comment: str) -> str:
        """Says no, with a comment."""
        return self._send(review_path, "reject", {"comment": comment})

    def approve(self, review_path: str, comment: str) -> str:
        """Answers an escalation with yes."""
        return self._send(review_path, "approve", {"comment": comment})

    def _send(self, review_path: str, action: str, typed: dict[str, str]) -> str:
        form = _Form(f"{review_path}/{action}")
        form.feed(_good(self._client.get(review_path)).text)
        if not form.fields:
            raise PageRefused(404, f"{review_path} offers this person no {action} form")
        origin = str(self._client.base_url).rstrip("/")
        fields = {**form.fields, **typed}
        answer = self._client.post(f"{review_path}/{action}", data=fields, headers={"Origin": origin})
        return _words(_good(answer).text)

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


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.parts.append(" ".join(data.split()))


def _words(html: str) -> str:
    text = _Text()
    text.feed(html)
    return " ".join(text.parts)


def _good(response: httpx2.Response) -> httpx2.Response:
    if not response.is_success:
        raise PageRefused(response.status_code, _words(response.text))
    return response
