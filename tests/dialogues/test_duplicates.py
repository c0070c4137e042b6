from rlhf_dialog.dialogues.duplicates import drop_duplicates
from rlhf_dialog.dialogues.schema import Dialogue, Turn


def dialogue(name, split, *texts):
    turns = tuple(Turn("AB"[n % 2], text) for n, text in enumerate(texts))
    return Dialogue(name, turns, split=split)


def test_copies_across_splits_are_dropped_from_training():
    dialogues = [
        dialogue("a", "train", "Hi  there", "Ho"),
        dialogue("b", "train", "hi there", "ho"),
        dialogue("c", "test", "HI THERE", "ho"),
        dialogue("d", "train", "hi", "there ho"),
        dialogue("e", "valid", "x"),
        dialogue("f", "train", "x"),
        dialogue("g", "valid", "x"),
    ]
    kept, dropped = drop_duplicates(dialogues)
    assert [d.id for d in kept] == ["c", "d", "e"]
    assert dropped == {
        "copies in train of dialogues in test": 2,
        "copies in train of dialogues in valid": 1,
        "copies within valid": 1,
    }
