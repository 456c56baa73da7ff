"""Hostile fields to every form of the pages, drawn by hypothesis from the forms as a browser finds them; see attack.py."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

from hypothesis import strategies as st

from tests.hostile.arguments import NASTY

#: What HTTP carries in a form: any text but half a surrogate pair.
SENDABLE = [text for text in NASTY if "\ud800" not in text]
Fields = list[tuple[str, str]]


@dataclass(kw_only=True)
class Form:
    """One form: where it goes, what it sends by itself, and what a person fills in."""

    action: str
    hidden: dict[str, str] = field(default_factory=dict)
    typed: list[str] = field(default_factory=list)


class Forms(HTMLParser):
    """The forms of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "form":
            self.found.append(Form(action=known.get("action") or ""))
        elif tag in ("input", "textarea") and self.found and known.get("name"):
            name = str(known["name"])
            if known.get("type") == "hidden":
                self.found[-1].hidden[name] = known.get("value") or ""
            else:
                self.found[-1].typed.append(name)


def hostile_fields(form: Form, never: str) -> st.SearchStrategy[tuple[str, Fields]]:
    """(what is wrong, the fields); `never` is the one text that would be an honest yes."""
    texts = st.sampled_from(SENDABLE) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    texts = texts.filter(lambda text: text.strip().replace(",", "") != never)
    hidden = list(form.hidden.items())
    filled = st.fixed_dictionaries(dict.fromkeys(form.typed, texts)).map(lambda typed: [*hidden, *typed.items()])
    names = [name for name, _ in hidden] + form.typed
    return st.one_of(
        filled.map(lambda fields: ("filled with hostile texts", fields)),
        st.tuples(filled, st.sampled_from(names)).map(
            lambda drawn: (f"without {drawn[1]}", [pair for pair in drawn[0] if pair[0] != drawn[1]])
        ),
        st.tuples(filled, st.sampled_from(names), texts).map(
            lambda drawn: (f"{drawn[1]} twice", [*drawn[0], (drawn[1], drawn[2])])
        ),
        st.tuples(filled, st.sampled_from(sorted(form.hidden)), texts).map(
            lambda drawn: (f"{drawn[1]} forged", [(n, drawn[2] if n == drawn[1] else v) for n, v in drawn[0]])
        ),
        filled.map(lambda fields: ("with fifty more", fields + [("more", "x")] * 50)),
        filled.map(lambda fields: ("huge", [*fields, ("more", "x" * 100_000)])),
    )
