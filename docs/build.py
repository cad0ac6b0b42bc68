r"""Builds the site: `python -m docs.build`, or `make docs`.

Pages are docs/*.md and README.md, which is the first one. What the code knows is written into
copies of them, in place of lines such as `<!-- generated: models -->`, so that nothing is said
twice. Zensical then makes the site in build/site and refuses links to pages and headings that do
not exist; what it does not check is checked here.
"""

import ast
import contextlib
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import flaxzoo
from flaxzoo import commands, config
from flaxzoo.commands.models import row
from flaxzoo.models import FAMILIES
from flaxzoo.models.info import model_info

ROOT = Path(__file__).parents[1]
DOCS, PAGES = ROOT / "docs", ROOT / "build" / "docs"
# An inline link or picture: its text and its target, without the heading that it may name.
LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>[^)#\s]+)(?P<heading>#[^)\s]*)?\)")
# A name in a cell of a table that is too long for one line of it.
LONG_NAME = re.compile(r"(?<=[| ])`(\w{25,})`(?=[,; ])")


def main() -> None:
    """Builds the site, or says what is wrong and exits with 1."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    for path in [ROOT / "README.md", *sorted(DOCS.iterdir())]:
        target = PAGES / ("index.md" if path.name == "README.md" else path.name)
        if path.suffix == ".md":
            target.write_text(page(path.read_text("utf-8"), path.parent), "utf-8")
        elif path.suffix in (".png", ".css"):
            shutil.copy(path, target)
    listed = set(re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    if odd := listed ^ {path.name for path in PAGES.glob("*.md")}:
        sys.exit(f"error: not both in docs/ and in the nav of mkdocs.yml: {', '.join(sorted(odd))}")
    zensical = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    built = subprocess.run(zensical, cwd=ROOT, capture_output=True, text=True)
    if built.returncode:
        said = re.sub(r"\x1b\[[\d;]*m", "", built.stdout + built.stderr)  # colours
        # The traceback of strict mode says nothing that the warnings before it do not.
        sys.exit(said.partition("Traceback (most")[0].strip() or said)
    print(f"wrote {ROOT / 'build/site/index.html'}")


def page(text: str, folder: Path) -> str:
    """Returns a page as the site has it.

    Args:
        text: Markdown, of a file in `folder`.

    Raises:
        SystemExit: a link to a file that does not exist.
    """
    text = re.sub(r"^<!-- generated: (\w+) -->$", lambda m: GENERATED[m[1]](), text, flags=re.M)
    text = LINK.sub(lambda match: _link(match, folder), text)
    return LONG_NAME.sub(_breakable, text)


def _breakable(match: re.Match[str]) -> str:
    """Returns a name that a browser may break after each underscore."""
    return f"<code>{match[1].replace('_', '_<wbr>')}</code>"


def _link(match: re.Match[str], folder: Path) -> str:
    """Returns a link as the site has it: of what is no page or picture of it, the path."""
    if re.match(r"[a-z]+:", match["target"]):
        return match[0]
    path = Path(os.path.normpath(folder / match["target"]))
    if path == ROOT / "README.md":
        return f"{match['text']}(index.md{match['heading'] or ''})"
    if not path.exists():
        sys.exit(f"error: {match[0]} of a page in {folder} links to nothing")
    if path.parent != DOCS:
        text, file = match["text"][1:-1], path.relative_to(ROOT).as_posix()
        return text if path.name in text else f"{text}: `{file}`"
    return f"{match['text']}({path.name}{match['heading'] or ''})"


def models() -> str:
    """Returns a section for each family, with its papers and its variants."""
    return "\n\n".join(map(_family, sorted(FAMILIES, key=lambda family: _title(family).lower())))


def _family(family: ModuleType) -> str:
    names = [name for name in family.VARIANTS if not name.startswith("test_")]
    lines = [f"## {_title(family)}", ""]
    lines += [f"- {_linked(paper)}" for paper in model_info(next(iter(family.VARIANTS))).papers]
    lines += [
        "",
        "| model | parameters | GMACs | pixels | top-1 (%) | published weights | equal to |",
        "|---|--:|--:|--:|--:|---|---|",
    ]
    for name in names:
        known = row(name)
        weights = ", ".join(f"`{weights.name}`" for weights in model_info(name).weights)
        figures = [
            f"{known['parameters']:,}",
            *(
                "" if known[key] is None else format(known[key], how)
                for key, how in (("gmacs", ".2f"), ("image_size", "d"), ("top1", ".2f"))
            ),
        ]
        lines.append(f"| `{name}` | {' | '.join(figures)} | {weights} | {known['parity'] or ''} |")
    return "\n".join(lines)


def _title(family: ModuleType) -> str:
    """Returns what the first line of a family's docstring is about, without what it says of it."""
    return (family.__doc__ or "").partition("\n")[0].partition(":")[0].rstrip(".")


def _linked(paper: str) -> str:
    """Makes the address at the end of a paper's line a link."""
    return re.sub(r"(https?://\S+?)(\.?)$", r"<\1>", paper)


def functions() -> str:
    """Returns signature and docstring of what the package exports."""
    return "\n\n".join(
        _function(name) for name in flaxzoo.__all__ if inspect.isfunction(getattr(flaxzoo, name))
    )


def _function(name: str) -> str:
    function = getattr(flaxzoo, name)
    source = inspect.getsource(function)
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.FunctionDef)
    first = definition.body[0].lineno - 1
    signature = re.sub(r"  #.*", "", "\n".join(source.splitlines()[:first])).replace(
        " | object", ""
    )
    signature = signature.removeprefix("def ").rstrip(":")
    return (
        f"### {name}\n\n```python\n{signature}\n```\n\n{_docstring(inspect.getdoc(function) or '')}"
    )


def _docstring(text: str) -> str:
    """Returns Google's sections as bold words with lists, and doctests as code."""
    parts = []
    for paragraph in text.split("\n\n"):
        head, _, body = paragraph.partition("\n")
        if re.fullmatch(r"(Args|Raises):", head):
            entries = re.split(r"\n(?=\S)", textwrap.dedent(body))
            listed = [re.sub(r"^([\w*, ]+):", r"`\1`:", " ".join(e.split())) for e in entries]
            parts.append(f"**{head}**\n\n" + "\n".join(f"- {entry}" for entry in listed))
        elif head == "Returns:":
            parts.append(f"**{head}** {textwrap.dedent(body)}")
        elif head.startswith(">>>"):
            parts.append(f"```python\n{paragraph}\n```")
        else:
            parts.append(paragraph)
    return "\n\n".join(parts)


def fields() -> str:
    """Returns a table of the fields of each group of the config, by their names as flags."""
    source = Path(config.__file__).read_text("utf-8")
    comments = {
        token.start[0]: token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    return "\n\n".join(_groups(classes, "Config", "config", comments))


def _groups(
    classes: dict[str, ast.ClassDef], name: str, path: str, comments: dict[int, tokenize.TokenInfo]
) -> Iterator[str]:
    """Yields the table of a dataclass, then those of the dataclasses that are its fields."""
    rows, inner = [], []
    for node in classes[name].body:
        if not isinstance(node, ast.AnnAssign) or node.value is None:
            continue
        field, kind = ast.unparse(node.target), ast.unparse(node.annotation)
        if kind in classes:
            inner.append((kind, f"{path}.{field}"))
            continue
        said = " ".join(_comments(node, comments)).replace("|", "\\|")
        default = ast.unparse(node.value).replace("'", '"')
        rows.append(f"| `{field}` | `{default}` | {said} |")
    said = ast.get_docstring(classes[name]) or ""
    table = "\n".join(["| field | default | |", "|---|---|---|", *rows])
    yield f"### --{path}.\n\n{said}\n\n{table}"
    for kind, where in inner:
        yield from _groups(classes, kind, where, comments)


def _comments(node: ast.AnnAssign, comments: dict[int, tokenize.TokenInfo]) -> list[str]:
    """Returns what stands above a field in lines of its own, and behind it."""
    line, above = node.lineno - 1, []
    while (found := comments.get(line)) and not found.line[: found.start[1]].strip():
        above.insert(0, found.string)
        line -= 1
    behind = [
        comments[i].string for i in range(node.lineno, (node.end_lineno or 0) + 1) if i in comments
    ]
    return [text.lstrip("# ") for text in above + behind]


def helps() -> str:
    """Returns what each command answers to --help."""
    os.environ["COLUMNS"] = "96"  # of the terminal that argparse writes for
    sections = []
    for name, what in commands.COMMANDS.items():
        said = _help([name])
        if name == "data":
            said += "\n\n" + _help(["data", "prepare"])
        sections.append(f"## {name}\n\n{what[0].upper()}{what[1:]}.\n\n```text\n{said}\n```")
    return "\n\n".join(sections)


def _help(command: list[str]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        commands.run([*command, "--help"])
    return out.getvalue().strip()


GENERATED: dict[str, Callable[[], str]] = {
    "models": models,
    "functions": functions,
    "fields": fields,
    "helps": helps,
}

if __name__ == "__main__":
    main()
