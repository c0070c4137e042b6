"""Small files in the very form of each source, written for these tests."""

import json

SCENE = [("Ann", "Hi, you!"), ("Bob", "Hello."), ("Ann", "Tea?")]


def lines(*records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


PERSONA_TEXT = (
    "1 your persona: i keep bees.\n"
    "2 your persona: i am 67.\n"
    "3 partner's persona: i ride a bike.\n"
    "4 hi , how are you ?\tfine , thank you .\t\tno .|fine , thank you .|me too\n"
    "5 any hobbies ?\tbees .\t\tbees .|cars ?\n"
    "1 your persona: i sing.\n"
    "2 __SILENCE__\thello !\n"
    "3 hello to you\n"
)
PERSONA_JSON = {
    "train": [
        {
            "personality": ["i keep bees .", "i am 67 ."],
            "utterances": [
                {"candidates": ["no .", "me too", "fine ."], "history": ["hi , you"]},
                {
                    "candidates": ["cars ?", "bees ."],
                    "history": ["hi , you", "fine .", "hobbies ?"],
                },
            ],
        }
    ],
    "valid": [
        {
            "personality": ["i sing ."],
            "utterances": [{"candidates": ["no .", "hello !"], "history": ["__ SILENCE __"]}],
        }
    ],
}
EMPATHETIC = (
    "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
    "hit:0_conv:1,1,proud,I won_comma_ at last.,7,I won_comma_ at last!,5|5|5_2|2|5,\n"
    "hit:0_conv:1,2,proud,I won_comma_ at last.,3,Well done.,5|5|5_2|2|5,,Oh no.|Well done._pipe_\n"
    "hit:0_conv:1,3,proud,I won_comma_ at last.,7,Thank you.,5|5|5_2|2|5,\n"
    "hit:1_conv:2,1,sad,I lost.,4,I lost.,5|5|5_2|2|5,\n"
    "hit:1_conv:2,2,sad,I lost.,5,2 hit:1_conv:2 sad,5|5|5_2|2|5,\n"
)
BLENDED_JSON = [
    {
        "personas": [["i sail.", "i am old."], ["i keep bees.", "i am 67."]],
        "context_dataset": "wizard_of_wikipedia",
        "free_turker_utterance": "Do you like honey?",
        "guided_turker_utterance": "I make it.",
        "additional_context": "Honey",
        "dialog": [[0, "How?"], [1, "With bees."], [0, "I see."], [1, "Come and look!"]],
        "suggestions": [{}, {"convai2": "no ."}, {}, {"convai2": "yes ."}],
        "suggestion_orders": [[], [], [], []],
        "chosen_suggestions": ["", "", "", ""],
        "workers": ["w1", "w2"],
        "label_candidates": [["With bees.", "With cars."], ["No.", "Come and look!"]],
    }
]
BLENDED_ROW = {
    "personas": ["i keep bees.", "i am 67."],
    "additional_context": "Honey",
    "previous_utterance": ["Do you like honey?", "I make it."],
    "context": "wizard_of_wikipedia",
    "free_messages": ["How?", "I see."],
    "guided_messages": ["With bees.", ""],
    "suggestions": {"convai2": ["no .", "yes ."]},
    "guided_chosen_suggestions": ["", ""],
    "label_candidates": [],
}
