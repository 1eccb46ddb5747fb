"""Text from outside, such as a file name, as it may be shown: without characters that act on it.

A control character moves the cursor of a terminal, a bidirectional control reorders a line, and a
lone surrogate (a byte of a file name that is no UTF-8) cannot be written at all. What is stored
keeps the text as it is: only what shows it to a person calls `printable`.
"""

LAYOUT = "\n\t"


def printable(text: str, *, layout: str = LAYOUT) -> str:
    r"""Return the text with each character that is not printable as an escape, such as \u202f.

    Printable is what `str.isprintable` says. The characters in `layout` stay: newlines and tabs,
    unless the text is to be one line (`layout=""`). A text that was escaped stays the same.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in layout else c.encode("unicode_escape").decode("ascii")
        for c in text
    )
