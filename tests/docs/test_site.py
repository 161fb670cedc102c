"""The site is complete: every command, public name, page and example is in it."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

import hangarlake
from hangarlake import errors
from tests.docs.pages import DOCS, ROOT


def _hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hooks_{name}", DOCS / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _nav() -> str:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    return text[text.index("\nnav:") :]


def _commands() -> dict[str, object]:
    from typer.main import get_command

    from hangarlake.cli.app import app

    found: dict[str, object] = {}
    for name, command in get_command(app).commands.items():
        found[name] = command
        for sub, each in getattr(command, "commands", {}).items():
            found[f"{name} {sub}"] = each
    return found


def test_the_reference_has_every_command_with_its_options_and_their_help() -> None:
    reference = _hook("generated").command_line_reference()
    for name, command in _commands().items():
        assert re.search(rf"^###+ {name}$", reference, re.MULTILINE), name
        section = re.split(rf"^###+ {name}$", reference, flags=re.MULTILINE)[1].split("\n##")[0]
        for parameter in command.params:  # type: ignore[attr-defined]  # typer's classes carry no types
            if parameter.name == "help" or getattr(parameter, "hidden", False):
                continue
            assert all(f"`{option}`" in section for option in parameter.opts if option.startswith("-")), (name, section)
    assert re.search(r"^\| [^|]+ \|  \|$", reference, re.MULTILINE) is None, "something has no help"


def test_each_group_of_commands_stands_once_in_the_reference() -> None:
    headings = re.findall(r"^##+ .+$", _hook("generated").command_line_reference(), re.MULTILINE)
    assert sorted(set(headings)) == sorted(headings)


def test_help_is_shown_as_it_was_written() -> None:
    text = _hook("generated").help_as_markdown("`a --b` takes <REMOTE> & * in datetime64[ns], `<KEY>`")
    assert text == r"`a --b` takes &lt;REMOTE> &amp; \* in datetime64\[ns\], `<KEY>`"


def test_the_page_of_the_command_line_asks_for_the_reference() -> None:
    hook = _hook("generated")
    page = (DOCS / "reference/cli.md").read_text("utf-8")
    assert "### merge" in hook.on_page_markdown(page)
    assert hook.on_page_markdown("# Another page") == "# Another page"


def test_every_public_name_is_in_the_reference_of_python() -> None:
    pages = "".join(path.read_text("utf-8") for path in (DOCS / "reference/api").glob("*.md"))
    documented = set(re.findall(r"^::: hangarlake\.(?:\w+\.)*(\w+)$", pages, re.MULTILINE))
    constants = {"OURS", "THEIRS", "REMOVE", "__version__"}  # the first three are members of Resolution
    assert set(hangarlake.__all__) - set(errors.__all__) - constants <= documented


def test_the_reference_of_repositories_lists_every_public_member() -> None:
    page = (DOCS / "reference/api/repository.md").read_text("utf-8")
    listed = re.findall(r"\w+", page.partition("members: [")[2].partition("]")[0])
    members = [name for name in dir(hangarlake.Repository) if not name.startswith("_")]
    assert sorted(listed) == members, "docs/reference/api/repository.md gives their order"


def test_diagrams_need_no_other_host() -> None:
    template = (DOCS / "overrides/main.html").read_text("utf-8")
    scripts = re.findall(r"<script src=\"\{\{ '([^']+)' \| url \}\}\">", template)
    assert [script for script in scripts if "mermaid" in script]
    assert all((DOCS / script).is_file() for script in scripts)


def test_diagrams_can_scroll_and_no_dash_stands_alone() -> None:
    on_page_content = _hook("generated").on_page_content
    assert (
        on_page_content('<pre class="mermaid"><code>a\nb</code></pre>')
        == '<div class="diagram"><pre class="mermaid"><code>a\nb</code></pre></div>'
    )
    assert on_page_content('<li>x – <div class="doc-md-description">\n </div></li>') == "<li>x </li>"
    assert "– <div" in on_page_content('<li>x – <div class="doc-md-description"><p>y</p></div></li>')


def test_every_page_is_in_the_navigation() -> None:
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    notes = {path for note in _hook("generated").design_notes(DOCS) for path in note.values()}
    assert pages - notes == set(re.findall(r"[\w./-]+\.md", _nav()))


def test_every_example_is_on_its_page() -> None:
    page = (DOCS / "examples.md").read_text("utf-8")
    scripts = {path.name for path in (ROOT / "examples").glob("*.py")} - {"place.py"}
    assert set(re.findall(r'^--8<-- "examples/(\w+\.py)"$', page, re.MULTILINE)) == scripts


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe")
    as_markdown = _hook("roles").as_markdown
    assert as_markdown("See :meth:`Repository.open` and :class:`~a.b.Store`.") == "See `Repository.open` and `Store`."
    assert as_markdown("For example::\n\n    x = 1") == "For example:\n\n    x = 1"


def test_roles_become_links_where_the_path_is_known() -> None:
    pytest.importorskip("griffe")
    as_markdown = _hook("roles").as_markdown
    text = as_markdown(":meth:`open`, :class:`int`", {"open": "a.Repository.open"}.get)
    assert text == '<autoref identifier="a.Repository.open" optional>`open`</autoref>, `int`'


def test_what_is_internal_is_left_out() -> None:
    griffe = pytest.importorskip("griffe")
    module = griffe.visit(
        "m",
        filepath=ROOT / "m.py",
        code='''
_ORIGIN = "origin"
def seen(remote=_ORIGIN):
    """Return what :func:`hidden` returns."""
def hidden():
    """Return nothing (internal)."""
''',
    )
    _hook("roles").Roles().on_package(pkg=module)
    assert (
        module["seen"].docstring.value
        == 'Return what <autoref identifier="m.hidden" optional>`hidden`</autoref> returns.'
    )
    assert str(module["seen"].parameters["remote"].default) == "'origin'"
    assert module["hidden"].docstring is None
