"""A hook of mkdocs: links from a page to files outside of docs/.

A page links to ``../deploy/consul/`` or ``../README.md``, which works for whoever reads it in the
repository. The site has no such files: there the link becomes the file's path. A path that does not
exist fails the build, as every broken link does.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page's text with links out of docs/ replaced by paths."""
    here = (ROOT / "docs" / page.file.src_uri).parent

    def shown(match: re.Match[str]) -> str:
        target = (here / match[2]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return match[0]
        if not target.exists():
            raise PluginError(f"{page.file.src_uri} links to {match[2]}, which does not exist")
        path, text = target.relative_to(ROOT).as_posix(), match[1].strip("`")
        return f"`{path}`" if text.rstrip("/") in path else f"{match[1]} (`{path}`)"

    return _LINK.sub(shown, markdown)
