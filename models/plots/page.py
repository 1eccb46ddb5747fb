"""HTML pages from Jinja templates."""

from pathlib import Path

import jinja2

SHARED = Path(__file__).parent  # page.css, and page.html.j2, which templates extend


def template(folder: Path, name: str, **filters: object) -> jinja2.Template:
    """Return the template in a folder; it escapes values and raises on unknown names."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, SHARED]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    return environment.get_template(name)
