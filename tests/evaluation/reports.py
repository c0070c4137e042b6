"""Reports as the tests need them: a small one as earlier versions wrote it, and a whole one."""

EVIL = "<script>alert('x')</script> & \"quoted\" | [bold]brackets[/bold]"
KOREAN = "닻을 내리시오, 갑판장! 👩‍👩‍👧"


def metric(before, after, ci95=None, human=None):
    return {
        "before": before,
        "after": after,
        "human": human,
        "difference": after - before,
        "ci95": ci95,
    }


def plain_report():
    return {
        "metrics": {
            "judge_score": metric(-1.6, -0.76, [0.61, 1.07], -0.5),
            "discriminator_score": metric(-1.2, 0.3, [1.2, 1.7], 1.3),
            "distinct_2": metric(0.78, 0.77, [-0.03, 0.01], 0.84),
            "perplexity": metric(48.0, 50.0, [0.8, 3.1]),
            "reply_length": metric(9.9, 9.3, [-1.1, -0.1], 11.2),
            "kl": metric(0.0, 2.4, [2.2, 2.6]),
        },
        "seed": 7,
        "updates": 60,
        "versions": {"torch": "2.13.0"},
        "config": {"ppo": {"learning_rate": 1e-6}, "note": EVIL},
        "seconds": 432.7,
        "character": "PLUME",
        "generator_type": "causal",
        "test_contexts": 240,
    }


def updates():
    rows = []
    for update in range(1, 31):
        row = {"update": update, "objective/scores": update / 30, "objective/kl": 0.1 * update}
        row |= {"text/distinct_2": 0.9, "text/reply_words": 9.0}
        if update % 5 == 0:
            row |= {"judge/score": -1.0, "discriminator/loss": 0.4}
            row |= {f"discriminator/accuracy_{of}": 0.8 for of in ("fresh", "replayed", "human")}
        rows.append(row)
    return rows


def sample(context="How are you?", before="fine", after="Aye.", human="Well."):
    scores = {"before": -1.0, "after": 0.5, "human": 0.25}
    return {
        "context": ["An older turn.", context],
        "before": before,
        "after": after,
        "human": human,
        "scores": {"judge": scores, "discriminator": scores},
    }


def evil_samples():
    return [sample(), sample(context=EVIL, after=KOREAN), sample(before=EVIL, after="")]


def row(role, judge, kl=None, **more):
    numbers = {
        "judge_score": judge,
        "distinct_2": 0.7,
        **({} if kl is None else {"kl": kl}),
        **more,
    }
    entries = {name: {"value": v, "ci95": [v - 0.1, v + 0.1]} for name, v in numbers.items()}
    if role != "before":
        for entry in entries.values():
            entry |= {"difference": 0.5, "difference_ci95": [0.4, 0.6]}
    return {"role": role, "metrics": entries}


def whole_report():
    """With every part that a report can have; names hold markup too."""
    gap = {"difference": 0.8, "ci95": [0.6, 1.0]}
    bins = {"least": 1, "most": 6, **gap}
    bins["speakers"] = {
        who: {"replies": 40, "judge_score": score}
        for who, score in (("before", -1.6), ("after", -0.8), ("human", -0.5))
    }
    point = {"distinct_2": {"value": 0.7}, "judge_score": {"value": -1.0, "ci95": [-1.2, -0.8]}}
    more = {
        "generators": {
            "warm start": row("before", -1.6, 0.0),
            "tuned": row("after", -0.76, 2.4),
            EVIL: row("control", -1.1, 0.8),
            "human": row("human", -0.5),
        },
        "length_bins": {"bins": [bins], "matched": gap},
        "temperatures": [
            {"generator": "tuned", "role": "after", "temperature": t, **point} for t in (0.7, 1.0)
        ]
        + [{"generator": "human", "role": "human", "temperature": None, **point}],
        "retention": {
            "source": EVIL,
            "contexts": 100,
            "metrics": {"perplexity": metric(48.0, 50.0, [0.8, 3.1])},
        },
        "held_out": {
            "discriminator": {"auc/cast": 0.9, "auc/all": 0.85},
            "judge": {"auc/cast": 0.95, "auc/all": 0.9},
            "shortcuts": {"bag_of_words": {"cast": 0.8, "all": 0.7}},
        },
    }
    return plain_report() | more
