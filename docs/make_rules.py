"""Write docs/rules/ from the rules' docstrings: an index and one page per rule.

python docs/make_rules.py
"""

import inspect
import re
from pathlib import Path

from batchnorm.doctor import Rule, all_rules

FOLDER = Path(__file__).parent / "rules"
SECTION = re.compile(
    r"^(Checks|Why it hurts|Example|Instead|Is the fix safe|Source): ", re.MULTILINE
)
GROUPS = {
    "BN0": "Structure",
    "BN1": "Statistics",
    "BN2": "Training loop",
    "BN3": "Export",
    "BN4": "Noisy, only when selected",
}
DEPTHS = {
    "tree": "the modules alone",
    "trace": "what feeds what",
    "live": "a few batches (needs a sample or a loader)",
}


def pages() -> dict[str, str]:
    """File name → text."""
    return {"index.md": index(), **{f"{rule.code}.md": page(rule) for rule in all_rules()}}


def index() -> str:
    """A table per group."""
    lines = [
        "# The doctor's rules",
        "",
        "Generated from the rules' docstrings. How to use them is in [the doctor](../doctor.md).",
        "`*`: `--fix` can cure it.",
    ]
    for prefix, title in GROUPS.items():
        rules = [rule for rule in all_rules() if rule.code.startswith(prefix)]
        if rules:
            lines += [
                "",
                f"## {title}",
                "",
                "| code | name | severity | what |",
                "|---|---|---|---|",
            ]
            lines += [row(rule) for rule in rules]

    return "\n".join(lines) + "\n"


def row(rule: Rule) -> str:
    """Of the table."""
    link = f"[{rule.code}]({rule.code}.md){'*' * rule.fixable}"

    return f"| {link} | {rule.name} | {rule.severity} | {lead(rule)} |"


def lead(rule: Rule) -> str:
    """The first paragraph on one line."""
    return " ".join(text(rule).partition("\n\n")[0].split())


def text(rule: Rule) -> str:
    """The docstring, as Markdown."""
    return (inspect.getdoc(type(rule)) or "").replace("``", "`")


def page(rule: Rule) -> str:
    """The docstring with its sections as headings."""
    needs = ", ".join(f"`{need}`" for need in rule.needs)
    facts = [
        f"Severity: {rule.severity}.",
        f"Looks at: {DEPTHS[rule.depth]}.",
        *([f"Needs: {needs}."] if needs else []),
        "`--fix` can cure it." if rule.fixable else "There is no automatic fix.",
    ]
    body = SECTION.sub(lambda match: f"## {match[1]}\n\n", text(rule))
    # Sentences begin with a capital under a heading of their own.
    body = re.sub(r"(?<=\n\n)([a-z])", lambda match: match[1].upper(), body)

    return f"# {rule.code} {rule.name}\n\n{' '.join(facts)}\n\n{body}\n"


def main() -> None:
    """Write all pages, and remove those of rules that are gone."""
    FOLDER.mkdir(exist_ok=True)
    wanted = pages()
    for file in FOLDER.glob("*.md"):
        if file.name not in wanted:
            file.unlink()
    for name, content in wanted.items():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
