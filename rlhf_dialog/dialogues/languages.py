"""In which script, and so in about which language, a text is: enough to see what a file holds."""

from __future__ import annotations

import regex

# A script that tells the language, before one that several share; a letter counts once.
_SCRIPTS = {
    "Hangul": "Korean",
    "Hiragana": "Japanese",
    "Katakana": "Japanese",
    "Han": "Chinese",
    "Cyrillic": "Cyrillic script",
    "Arabic": "Arabic script",
    "Devanagari": "Devanagari script",
    "Thai": "Thai",
    "Greek": "Greek",
    "Hebrew": "Hebrew",
    "Latin": "Latin script",
}
_LETTERS = regex.compile("|".join(rf"(\p{{{script}}})" for script in _SCRIPTS))
# Frequent words that few of the other languages have.
_FUNCTION_WORDS = {
    "English": "the you and is it that what of this are do have was",
    "German": "und ich nicht das ist du ein wir die der auch mit",
    "French": "je est pas vous les une et tu il des avec mais",
    "Spanish": "que los una está por con pero muy como para más el",
    "Portuguese": "não você uma com mas ele isso para eu então também",
    "Italian": "che non sono una per è ma di il con questo anche",
    "Dutch": "het een niet ik je dat en zijn maar wat ook van",
}
_LANGUAGE_OF_WORD: dict[str, list[str]] = {}
for _language, _words in _FUNCTION_WORDS.items():
    for _word in _words.split():
        _LANGUAGE_OF_WORD.setdefault(_word, []).append(_language)


def language_of(text: str) -> str:
    """A guess: by the script of most letters, and among languages in Latin script by the most
    frequent function words. "no letters" where there are none."""
    counts = dict.fromkeys(_SCRIPTS, 0)
    names = list(_SCRIPTS)
    for match in _LETTERS.finditer(text):
        counts[names[match.lastindex - 1]] += 1
    if not any(counts.values()):
        return "no letters"
    if counts["Hiragana"] + counts["Katakana"]:  # Japanese is written with Han as well
        counts["Hiragana"] += counts["Katakana"] + counts["Han"]
        counts["Han"] = counts["Katakana"] = 0
    script = max(counts, key=counts.__getitem__)
    if script != "Latin":
        return _SCRIPTS[script]
    votes: dict[str, float] = {}
    for word in regex.findall(r"\p{L}+", text.lower()):
        for language in _LANGUAGE_OF_WORD.get(word, ()):
            votes[language] = votes.get(language, 0.0) + 1 / len(_LANGUAGE_OF_WORD[word])
    return max(votes, key=votes.__getitem__) if votes else _SCRIPTS["Latin"]
