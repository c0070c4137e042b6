"""What a single line of a plain-text transcript is: a scene heading, a turn, or neither."""

import re

_SCENE_HEADING = re.compile(
    r"""
      \#{1,6}(\s.*)?                                # ## Scene: the bar
    | [\[(]\s*scene\b.*                             # [Scene: the bar]
    | (scene|act)\s*:.*                             # Scene: the bar
    | (scene|act)\s+\d+\b.*                         # SCENE 3, Scene 3: the bar
    | (scene|act)\s+([ivxlc]+|one|two|three|four|five)\s*([-:.,–—].*)?  # Act II - the bar
    | (?-i:(\d+[.\s]+)?(INT\.?/EXT|EXT\.?/INT|INT|EXT|I/E)(\.|\s).*)  # INT. BAR - NIGHT
    | (?-i:S\#\s?\d+\b.*)                           # S#3. 카페
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)

# The opening bracket of ":(" and its like is a face, not a direction.
_STAGE_DIRECTION = re.compile(
    r"""[ \t]?(
      (?<!\s[:;=])(?<!^[:;=])(?<![:;=]-)\([^()\[\]]*\)
    | \[[^()\[\]]*\]
    )""",
    re.VERBOSE,
)

_BRACKETED_NAME = re.compile(r"^\[([^\[\]:：]+)\]\s*(?=[:：])")  # [BARNEY]: hello
_BOLD_NAME = re.compile(r"^(\*\*|__)([^:：*]+?)\s*(?:([:：])\1|\1\s*([:：]))")  # **Barney:** hello

# The colon of "https://" ends no name.
_NAMED_LINE = re.compile(r"([^:：]{1,40})[:：](?!//)(.*)", re.DOTALL)
_MOST_WORDS_IN_A_NAME = 5
_NOT_IN_A_NAME = re.compile(r"[!?;\"“”…]")


def is_scene_heading(line: str) -> bool:
    """Whether `line` begins a new scene: `## …`, `[Scene: …]`, `SCENE 3`, `INT. …`, `EXT. …`."""
    return _SCENE_HEADING.fullmatch(line.strip().strip("*_")) is not None


def directions_removed(text: str) -> str:
    """`text` without its (stage directions) and [stage directions], nested ones included."""
    found = 1
    while found:
        text, found = _STAGE_DIRECTION.subn(_gap, text)
    return text


def speaker_and_text(line: str) -> tuple[str, str] | None:
    """`("Ann", "Hi!")` for `Ann (waving): Hi!`; None for a line that begins no turn.

    A name has at most 40 characters and five words, at least one letter, and none of `!?;"…`. The
    text may still hold stage directions, since they may go on in the next line.
    """
    line = _BRACKETED_NAME.sub(r"\1", line.strip())
    line = _BOLD_NAME.sub(r"\2\3\4", line)
    match = _NAMED_LINE.fullmatch(directions_removed(line).strip())
    if match is None:
        return None
    name, text = match[1].strip(), match[2].strip()
    if not any(character.isalpha() for character in name) or _NOT_IN_A_NAME.search(name):
        return None
    if len(name.split()) > _MOST_WORDS_IN_A_NAME:
        return None
    if name[-1].isdigit() and match[2][:1].isdigit():  # "at 10:30", in a line that goes on
        return None
    return name, text


def _gap(match: re.Match[str]) -> str:
    """What stands where a direction stood: "Hi (waves), Bob" to "Hi, Bob", "a(b)c" to "a c"."""
    following = match.string[match.end() : match.end() + 1]
    return "" if following in set(" \t\n,.!?;:…：") or not following else " "
